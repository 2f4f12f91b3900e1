"""Batches on their way to the models and back; and which video it is that kills a model.

When a model's process dies, all batches that were with it are suspects. Each is tried again alone; one that kills again is cut
in two, until one video is left that kills by itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from indexer.errors import ExecutionError, ModelCrash
from indexer.execute.assembly import Assembly, Attempt
from indexer.execute.base import WorkMeter
from indexer.execute.batching import Batcher, Slice
from indexer.execute.cluster import Cluster, Lost
from indexer.execute.workers import Answer
from indexer.records import Failure, Outcome

CALLS_PER_ACTOR = 2
"""One at work, one waiting: the next batch is there when the model is ready."""
IDLE_SECONDS = 60.0
"""A model without work for so long may be stopped."""
VIDEOS_BLAMED = 10
"""In a row, without an answer in between: then it is the model that does not work, not the videos."""
VIDEOS_BLAMED_AT_FIRST = 3
"""The same, of a model that has never answered yet."""

Batch = list[Slice[Any]]


@dataclass(slots=True)
class _Call:
    """One batch at a model actor."""

    actor: int
    batch: Batch
    alone: bool


class Calls:
    """All calls of models of one run."""

    def __init__(
        self,
        cluster: Cluster,
        assembly: Assembly,
        batcher: Batcher[Any],
        meter: WorkMeter,
        *,
        redo: Callable[[Attempt, str], Iterator[Outcome]],
    ) -> None:
        self._cluster = cluster
        self._assembly = assembly
        self._batcher = batcher
        self._meter = meter
        self._redo = redo
        self._calls: dict[Any, _Call] = {}
        self._suspects: deque[Batch] = deque()
        self._blamed = 0
        self._answered = False
        self._last_use: dict[int, float] = {}

    @property
    def refs(self) -> list[Any]:
        return list(self._calls)

    @property
    def waiting(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._calls or self._suspects)

    def owns(self, ref: Any) -> bool:
        return ref in self._calls

    def fill(self, *, drained: bool) -> None:
        """Hand out full batches; a part of one only when `drained`: nothing is left to fill it."""
        size = self._cluster.batch_clips
        if size is None or not self._cluster.actors:
            return
        if self._suspects:
            if not self._calls:
                self._call(self._cluster.actors[0], self._open(self._suspects.popleft()), alone=True)
            return
        while self._batcher.clips >= size or (drained and self._batcher.clips):
            busy = [call.actor for call in self._calls.values()]
            free = min(self._cluster.actors, key=busy.count)
            if busy.count(free) >= CALLS_PER_ACTOR:
                if self._batcher.clips >= 2 * size:
                    self._cluster.grow()
                return
            self._call(free, self._open(self._batcher.take(size)))

    def collect(self, ref: Any) -> Iterator[Outcome]:
        """Give the answers for a batch to their videos, or find out what became of it."""
        call = self._calls.pop(ref)
        self._last_use[call.actor] = time.monotonic()
        answer = self._cluster.answer(ref, call.actor)
        if isinstance(answer, Answer):
            self._blamed, self._answered = 0, True
            yield from self._deliver(call.batch, answer)
        elif answer.what == "pixels":
            self._batcher.done(call.batch)
            for attempt in {part.attempt for part in call.batch}:
                if self._assembly.is_open(attempt):
                    yield from self._redo(attempt, answer.reason)
        elif call.alone and answer.what == "model":
            yield from self._narrow(call.batch, answer)
        else:
            self._suspects.append(call.batch)

    def rest(self, now: float) -> None:
        """Stop models that have had nothing to do for a while."""
        busy = {call.actor for call in self._calls.values()}
        for actor in self._cluster.actors[:]:
            since = self._last_use.setdefault(actor, now)
            if actor not in busy and now - since > IDLE_SECONDS:
                self._cluster.shrink(actor)

    def _open(self, batch: Batch) -> Batch:
        """Without what belongs to videos that have failed in the meantime."""
        self._batcher.done([part for part in batch if not self._assembly.is_open(part.attempt)])
        return [part for part in batch if self._assembly.is_open(part.attempt)]

    def _call(self, actor: int, batch: Batch, *, alone: bool = False) -> None:
        if batch:
            slices = [(part.start, part.stop) for part in batch]
            ref = self._cluster.predict(actor, slices, [part.pack for part in batch])
            self._calls[ref] = _Call(actor, batch, alone)

    def _deliver(self, batch: Batch, answer: Answer) -> Iterator[Outcome]:
        self._meter.clips += len(answer.probabilities)
        self._meter.stage_seconds["infer"] += answer.seconds
        self._batcher.done(batch)
        first = 0
        for part in batch:
            rows = slice(first, first + part.clips)
            first += part.clips
            outcome = self._assembly.predicted(
                part.attempt, part.first_clip, answer.probabilities[rows], answer.embeddings[rows]
            )
            if outcome is not None:
                yield outcome

    def _narrow(self, batch: Batch, lost: Lost) -> Iterator[Outcome]:
        """A batch has killed a model while it was alone with it."""
        attempts = list(dict.fromkeys(part.attempt for part in batch))
        if len(attempts) > 1:
            half = set(attempts[: len(attempts) // 2])
            self._suspects.append([part for part in batch if part.attempt in half])
            self._suspects.append([part for part in batch if part.attempt not in half])
            return
        self._batcher.done(batch)
        self._blamed += 1
        if self._blamed >= (VIDEOS_BLAMED if self._answered else VIDEOS_BLAMED_AT_FIRST):
            failed = f"the model failed on {self._blamed} videos in a row"
            raise ExecutionError(f"{failed}, at last because: {lost.reason}. Finished videos are safe; run it again")
        if self._assembly.is_open(attempts[0]):
            video = self._assembly.again(attempts[0]).videos[0]
            self._assembly.close(video)
            yield Failure(video, ModelCrash.code, f"the model failed on its clips, also alone: {lost.reason}")
