"""Holds the network and runs it: uint8 clips in, probabilities and embeddings out."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from indexer.infer.feeder import Feeder
from indexer.infer.heap import keep_freed_memory
from indexer.infer.models import ModelSpec
from indexer.infer.modes import Mode, machine_key, remember_mode, remembered_mode
from indexer.infer.network import embedding_layer, lighten
from indexer.infer.precision import DTYPES, choose_mode, memory_format
from indexer.infer.weights import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Classifier:
    """One network on one device.

    The network always runs on batches of exactly `batch_clips` clips, the last one filled up with copies: a clip's numbers
    then do not depend on the clips it happened to share a batch with, so every executor writes the same rows.
    """

    def __init__(
        self, spec: ModelSpec, network: torch.nn.Module, weights: Weights, *, precision: str, mode: Mode | None = None
    ) -> None:
        """`network` is built from `weights`; `precision` as in the job file; `mode` is what another classifier of the same run
        chose already.

        Raises ConfigError if this device cannot do the precision.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            keep_freed_memory()
        self._feeder = Feeder(self.device)
        self._computing = Lock()
        self._network = network.to(self.device)
        self._mean = torch.tensor(spec.mean, device=self.device).view(1, 3, 1, 1, 1)
        self._std = torch.tensor(spec.std, device=self.device).view(1, 3, 1, 1, 1)
        self._captured: list[torch.Tensor] = []
        embedding_layer(self._network, spec).register_forward_pre_hook(self._capture)
        height, width = spec.geometry.crop
        self._shape = (spec.geometry.frames, height, width, 3)
        self.mode = mode or self._find_mode(spec, weights, precision)
        if self.mode.format != "fp32":
            lighten(self._network, DTYPES[self.mode.format])
        self._network.to(memory_format=memory_format(self.mode))

    def predict(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[n, T, H, W, 3] uint8 RGB -> softmax probabilities [n, classes] and embeddings [n, width], float32.

        On a GPU two threads may call it: the clips of one are copied there while it computes those of the other.
        """
        if frames.ndim != 5 or frames.shape[1:] != self._shape:
            raise ValueError(f"clips of shape {frames.shape[1:]} for a model that takes {self._shape}")
        while True:
            size = self.mode.batch_clips
            try:
                return self._predict(frames, size)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Somebody else may share this GPU. The smaller batch stays: memory that was short once will be again.
            torch.cuda.empty_cache()
            self.mode = replace(self.mode, batch_clips=min(self.mode.batch_clips, size // 2))

    def _predict(self, frames: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        begun = []
        for first in range(0, len(frames), size):
            batch = frames[first : first + size]
            upload = self._feeder.upload(batch, size)
            with self._computing:
                probability, embedding = self._run(self._feeder.take(upload), self.mode)
                begun.append(self._feeder.fetch(probability[: len(batch)], embedding[: len(batch)]))
        probabilities, embeddings = zip(*(answers.arrays() for answers in begun), strict=True)
        return np.concatenate(probabilities), np.concatenate(embeddings)

    def _find_mode(self, spec: ModelSpec, weights: Weights, precision: str) -> Mode:
        key = machine_key(spec, weights, precision, self.device)
        mode = remembered_mode(key)
        if mode is None:
            convolutional = any(isinstance(layer, torch.nn.BatchNorm3d) for layer in self._network.modules())
            mode = choose_mode(self._run, self._shape, precision, self.device, convolutional=convolutional)
            remember_mode(key, mode)
        return mode

    @torch.inference_mode()
    def _run(self, clips: torch.Tensor, mode: Mode) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [n, T, H, W, 3] on the device -> probabilities and embeddings, float32, there."""
        # Seen as [n, 3, T, H, W] this already lies in memory as channels_last_3d.
        moved = clips.permute(0, 4, 1, 2, 3)
        # The order of operations of torchvision's VideoClassification preset, so that fp32 results are the same to the bit.
        scaled = (moved.to(torch.float32) / 255 - self._mean) / self._std
        self._captured.clear()
        with torch.autocast(self.device.type, dtype=DTYPES[mode.format], enabled=mode.format != "fp32"):
            logits = self._network(scaled.contiguous(memory_format=memory_format(mode)))
        embedding = self._captured.pop()
        if embedding.ndim == 5:  # s3d averages over space and time after its last layer; the mean before it is the same
            embedding = embedding.mean(dim=(2, 3, 4))
        return torch.softmax(logits.float(), dim=1), embedding.float()

    def _capture(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._captured.append(inputs[0])
