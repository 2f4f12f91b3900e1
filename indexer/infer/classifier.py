"""Holds the network and runs it: uint8 clips in, probabilities and embeddings out."""

from __future__ import annotations

import copy
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from indexer.infer.feeder import Feeder
from indexer.infer.heap import keep_freed_memory
from indexer.infer.models import ModelSpec
from indexer.infer.modes import Mode, machine_key, remember_mode, remembered_mode
from indexer.infer.network import is_convolutional
from indexer.infer.precision import HOPELESS, bf16_slowdown, choose_mode
from indexer.infer.runner import Runner
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
        """`network` is built from `weights`, and changed; `precision` as in the job file; `mode` is what another classifier of
        the same run chose already, maybe on another kind of machine: what is hopeless here is not taken over.

        Raises ConfigError if this device cannot do the precision.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            keep_freed_memory()
        self._feeder = Feeder(self.device)
        self._computing = Lock()
        height, width = spec.geometry.crop
        self._shape = (spec.geometry.frames, height, width, 3)
        self._convolutional = is_convolutional(network)
        if mode is None or (mode.format == "bf16" and self._bf16_slowdown() > HOPELESS):
            mode = self._find_mode(spec, network, weights, precision)
        self.mode = mode
        self._run = Runner(spec, network, self.mode, self.device)

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
                probability, embedding = self._run(self._feeder.take(upload))
                begun.append(self._feeder.fetch(probability[: len(batch)], embedding[: len(batch)]))
        probabilities, embeddings = zip(*(answers.arrays() for answers in begun), strict=True)
        return np.concatenate(probabilities), np.concatenate(embeddings)

    def _find_mode(self, spec: ModelSpec, network: torch.nn.Module, weights: Weights, precision: str) -> Mode:
        def prepare(mode: Mode) -> Runner:
            return Runner(spec, copy.deepcopy(network), mode, self.device)

        key = machine_key(spec, weights, precision, self.device)
        mode = remembered_mode(key)
        if mode is None:
            slowdown = self._bf16_slowdown()
            mode = choose_mode(
                prepare, self._shape, precision, self.device, convolutional=self._convolutional, slowdown=slowdown
            )
            remember_mode(key, mode)
        return mode

    def _bf16_slowdown(self) -> float:
        return bf16_slowdown(self.device, convolutional=self._convolutional)
