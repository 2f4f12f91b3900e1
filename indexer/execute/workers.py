"""What runs inside a worker process. Knows nothing of Ray; `local` calls the same code."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.decode.unit import LastWord, decode_unit
from indexer.decode.video import DecodeSettings
from indexer.infer.models import ModelSpec, model_spec
from indexer.infer.weights import Weights
from indexer.records import ClipGeometry, ClipPack, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from indexer.config import Job, Model, Sampling
    from indexer.infer.classifier import Classifier
    from indexer.infer.modes import Mode

DECODE_NICENESS = 5
"""More than the model has. Decoding steps back where both want one core: a waiting model keeps everything else waiting. Not
further, or beside other busy processes it would hardly move (docs/decisions, 46)."""
RANGE_SECONDS = 600.0
"""A longer video is cut into ranges of at most this: all workers share it, and a killed run loses one range, not all."""

LEAVING_SECONDS = 0.02
"""What a process says is lost if it dies at once; it takes some milliseconds to be out of it."""
DYING_SECONDS = 5.0

_unlimited_bytes: int | None = None
"""What this process had before it opened its first video."""


@dataclass(frozen=True, slots=True)
class PackHeader:
    """Describes a pack, so that the driver never needs to touch its pixels."""

    first_clip: int
    clips: int


class Sign(Enum):
    """What a decode task says of itself."""

    STARTED = auto()
    """Until then it waits for a core or a process, and that is no video's fault."""
    OUT_OF_MEMORY = auto()
    """The video at work took more than there is; this is the end of the task."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one batch, in the order of its slices."""

    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    seconds: float


Announced = Sign | PackHeader | LastWord


def decode_process(
    unit: Unit, settings: DecodeSettings, memory_bytes: int, *, gpu: bool
) -> Iterator[NDArray[np.uint8] | Announced | None]:
    """`decode_stream` in a process of its own, which may take `memory_bytes` more than it has now.

    Without `gpu` it never touches one; with it, the one that it was given.
    """
    os.setpriority(os.PRIO_PROCESS, 0, min(_niceness() + DECODE_NICENESS, 19))
    if gpu:
        from indexer.decode.readers.nvdec import why_unusable

        why_unusable("cuda")  # prepares it: its libraries and memory are not the first video's
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    _limit_memory(memory_bytes)
    said: object = None
    for said in decode_stream(unit, settings):
        yield said
        if said is Sign.STARTED:
            time.sleep(LEAVING_SECONDS)
    if said is Sign.OUT_OF_MEMORY:
        # Whoever hears this kills the process: what the video still holds of it must not be missing to the next one.
        time.sleep(DYING_SECONDS)
        os._exit(1)


@cache
def _niceness() -> int:
    """Of this process, before it has decoded anything."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def decode_stream(unit: Unit, settings: DecodeSettings) -> Iterator[NDArray[np.uint8] | Announced | None]:
    """`decode_unit` for somebody else, two things for each item: the pixels of a pack (else None), then its header or word.

    Pixels come first: a header that was received proves that the pixels before it are whole.
    """
    yield None
    yield Sign.STARTED
    try:
        for item in decode_unit(unit, settings):
            if isinstance(item, ClipPack):
                yield item.frames
                yield PackHeader(item.first_clip, len(item.frames))
            else:
                yield None
                yield item
    except MemoryError:
        yield None
        yield Sign.OUT_OF_MEMORY


def _limit_memory(memory_bytes: int) -> None:
    """A file that makes its decoder ask for more gets a MemoryError, instead of taking the machine with it.

    RLIMIT_DATA counts what a process has of its own, not the memory that it shares with Ray's object store.
    """
    global _unlimited_bytes
    if _unlimited_bytes is None:
        status = Path("/proc/self/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmData:"))
        _unlimited_bytes = 1024 * int(kilobytes)
    limit = _unlimited_bytes + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def decode_settings(job: Job, geometry: ClipGeometry, *, range_seconds: float = RANGE_SECONDS) -> DecodeSettings:
    """What decoding needs of a job."""
    return DecodeSettings(
        geometry=geometry,
        segment_seconds=job.sampling.segment,
        clips=job.sampling.clips,
        placement=job.sampling.placement,
        backend=job.decode.backend,
        max_pixels=job.decode.max_pixels,
        min_coverage=job.decode.min_coverage,
        range_seconds=range_seconds,
    )


class ModelWorker:
    """Holds the classifier of one process. Two steps, so that videos can be decoded while speeds are measured."""

    def __init__(
        self, model: Model, sampling: Sampling, weights: Weights, labels: tuple[str, ...] | None, *, gpu: bool = True
    ) -> None:
        """With `gpu` false, one that is there is left alone."""
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._model = model
        self._sampling = sampling
        self._weights = weights
        self._labels = labels
        self._classifier: Classifier | None = None
        self._answered = 0.0

    def load(self) -> ModelSpec:
        """Build the network with its weights. Raises WeightsError if they do not fit."""
        # Torch's idle threads must not spin on the cores that decode: OpenMP reads this once, when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch

        from indexer.infer.network import build_network

        torch.set_num_threads(os.cpu_count() or 1)  # Ray allows one thread to a worker that reserves no core
        self._spec = model_spec(self._model, self._sampling, self._labels)
        self._network = build_network(self._spec, self._weights)
        return self._spec

    def prepare(self, mode: Mode | None = None, most_clips: int | None = None) -> Mode:
        """Choose how to run, or take the `mode` that another worker of this run chose; in batches of `most_clips` at most, if
        there is room for no more. Raises ConfigError."""
        from indexer.infer.classifier import Classifier

        self._classifier = Classifier(self._spec, self._network, self._weights, precision=self._model.precision, mode=mode)
        if most_clips is not None and most_clips < self._classifier.mode.batch_clips:
            self._classifier.mode = replace(self._classifier.mode, batch_clips=most_clips)
        return self._classifier.mode

    def predict(self, slices: Sequence[tuple[int, int]], *packs: NDArray[np.uint8]) -> Answer:
        """Clips [start, stop) of each pack [n, T, H, W, 3], as one batch."""
        assert self._classifier is not None  # `prepare` comes first
        began = time.perf_counter()
        frames = np.concatenate([pack[start:stop] for (start, stop), pack in zip(slices, packs, strict=True)])
        probabilities, embeddings = self._classifier.predict(frames)
        answered = time.perf_counter()
        seconds, self._answered = answered - max(began, self._answered), answered  # on a GPU two calls overlap
        return Answer(probabilities, embeddings, seconds)

    def describe(self) -> str:
        assert self._classifier is not None
        return f"{self._model.name} on {self._classifier.device.type} ({self._classifier.mode})"
