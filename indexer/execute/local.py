"""The same stages in this process: no Ray, one video after the other. For tests, small jobs and debugging.

A decoder that crashes takes this process with it, and one that hangs is not stopped: decode.timeout needs Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from indexer.config import Job
from indexer.decode.unit import decode_unit
from indexer.execute.assembly import Assembly, Attempt
from indexer.execute.base import WorkMeter
from indexer.execute.batching import Batcher, Slice
from indexer.execute.workers import ModelWorker, decode_settings
from indexer.infer.weights import read_labels, resolve_weights
from indexer.records import ClipPack, Outcome, Unit, VideoEnd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

HEARTBEAT_SECONDS = 0.5


class LocalExecutor:
    """See `Executor` for the contract."""

    def __init__(self, job: Job) -> None:
        self.meter = WorkMeter()
        self._job = job

    def start(self) -> Sequence[str]:
        model = self._job.model
        self._model = ModelWorker(model, self._job.sampling, resolve_weights(model), read_labels(model.labels))
        self._spec = self._model.load()
        return self._spec.labels

    def process(self, units: Iterable[Unit], *, stopped: Callable[[], bool]) -> Iterator[Outcome | None]:
        settings = decode_settings(self._job, self._spec)
        self._batch_clips = self._model.prepare().batch_clips
        self._assembly = Assembly(self._spec.labels, top_k=self._job.output.top_k, min_score=self._job.output.min_score)
        self._batcher: Batcher[Pixels] = Batcher()
        beat = time.monotonic()
        for unit in units:
            attempts = {video.uri: self._assembly.begin(video) for video in unit.videos}
            for item in decode_unit(unit, settings):
                if stopped():
                    return
                attempt = attempts[item.video.uri]
                if isinstance(item, ClipPack):
                    self._batcher.add(attempt, item.first_clip, item.frames, len(item.frames))
                else:
                    yield from self._last_word(attempt, item)
                while self._batcher.clips >= self._batch_clips and not stopped():
                    yield from self._infer()
                if time.monotonic() - beat > HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    yield None
        while self._batcher.clips and not stopped():
            yield from self._infer()

    def describe(self) -> str:
        return f"this process, {self._model.describe()}"

    def close(self) -> None:
        """Nothing outlives this process."""

    def _last_word(self, attempt: Attempt, word: object) -> Iterator[Outcome]:
        if isinstance(word, VideoEnd):
            self.meter.stage_seconds["read"] += word.read_seconds
            self.meter.stage_seconds["decode"] += word.decode_seconds
        else:
            self._batcher.drop(attempt)
        outcome = self._assembly.finish(attempt, word)  # type: ignore[arg-type]
        if outcome is not None:
            yield outcome

    def _infer(self) -> Iterator[Outcome]:
        batch: list[Slice[Pixels]] = self._batcher.take(self._batch_clips)
        answer = self._model.predict([(part.start, part.stop) for part in batch], *(part.pack for part in batch))
        self.meter.clips += len(answer.probabilities)
        self.meter.stage_seconds["infer"] += answer.seconds
        first = 0
        for part in batch:
            rows = slice(first, first + part.clips)
            first += part.clips
            outcome = self._assembly.predicted(
                part.attempt, part.first_clip, answer.probabilities[rows], answer.embeddings[rows]
            )
            if outcome is not None:
                yield outcome
