"""A network made ready for one mode: uint8 clips on its device in, probabilities and embeddings there out."""

from __future__ import annotations

import torch

from indexer.infer.models import ModelSpec
from indexer.infer.modes import DTYPE_NAMES, Mode
from indexer.infer.network import embedding_layer, lighten


def memory_format(mode: Mode) -> torch.memory_format:
    return torch.channels_last_3d if mode.channels_last else torch.contiguous_format


class Runner:
    """For one thread at a time."""

    def __init__(self, spec: ModelSpec, network: torch.nn.Module, mode: Mode, device: torch.device) -> None:
        """`network` as `build_network` made it, fp32; it is moved to the device and turned into what the mode asks for."""
        self._device = device
        self._dtype = getattr(torch, DTYPE_NAMES[mode.format])
        self._mixed = mode.mixed
        self._memory_format = memory_format(mode)
        if mode.format != "fp32":
            lighten(network, self._dtype, throughout=not mode.mixed)
        self._network = network.to(device=device).to(memory_format=self._memory_format)
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1, 1)
        self._captured: list[torch.Tensor] = []
        embedding_layer(network, spec).register_forward_pre_hook(self._capture)

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [n, T, H, W, 3] -> softmax probabilities [n, classes] and embeddings [n, width], float32."""
        # Seen as [n, 3, T, H, W] this already lies in memory as channels_last_3d.
        moved = clips.permute(0, 4, 1, 2, 3)
        # The order of operations of torchvision's VideoClassification preset, so that fp32 results are the same to the bit.
        scaled = ((moved.to(torch.float32) / 255 - self._mean) / self._std).to(self._dtype)
        self._captured.clear()
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._mixed):
            logits = self._network(scaled.contiguous(memory_format=self._memory_format))
        embedding = self._captured.pop()
        if embedding.ndim == 5:  # s3d averages over space and time after its last layer; the mean before it is the same
            embedding = embedding.mean(dim=(2, 3, 4))
        return torch.softmax(logits.float(), dim=1), embedding.float()

    def _capture(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._captured.append(inputs[0])
