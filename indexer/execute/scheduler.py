"""The driver's loop: which unit decodes next, which clips make the next batch, whose fault a lost process is.

    units -> decode tasks --(pack, header), (pack, header), ... , (None, last word)--> batcher -> model actors -> assembly

Only headers, last words and answers come to this process; pixels go from the decoder's memory to the model's. Nothing retries
by itself below: whether to try a video again is decided here. Imports no ray: `Cluster` is what it needs of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from indexer.config import Job
from indexer.errors import DecoderCrash, DecodeTimeout, VideoError
from indexer.execute.assembly import Assembly, Attempt
from indexer.execute.base import WorkMeter
from indexer.execute.batching import Batcher, Slice
from indexer.execute.workers import Answer, PackHeader, Started, decode_settings
from indexer.infer.models import ModelSpec
from indexer.records import Failure, Outcome, Unit, Video, VideoEnd

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings

HEARTBEAT_SECONDS = 0.5
CRASHES_ALLOWED = 2
"""A video whose decoder died this often is given up."""
CALLS_PER_ACTOR = 2
"""One at work, one waiting: the next batch is there when the model is ready."""
STORE_SHARE = 0.5
"""Of the object store may hold clips that wait for the model; the rest is room for what decoders are just handing over."""


@dataclass(slots=True)
class _Decoding:
    """One decode task at work."""

    stream: Any
    unit: Unit
    attempts: deque[tuple[Video, Attempt]]
    """Of the videos that have no last word yet; the first one is being decoded."""
    pack: Any = None
    """Pixels whose header comes next."""
    last_sign: float | None = None
    """Monotonic seconds; None while it waits for a core."""


@dataclass(slots=True)
class _Call:
    """One batch at a model actor."""

    actor: int
    batch: list[Slice[Any]]


class Cluster(Protocol):
    """Processes that decode, processes that hold the model, and references to what they give."""

    decode_slots: int
    """How many decode tasks may run at once."""
    batch_clips: int | None
    """Clips in one batch; None until the first model is ready."""
    actors: list[int]
    """Models that are ready."""
    preparing: list[Any]
    """References to models that are not; give them to `prepared` when they come."""

    def decode(self, unit: Unit, settings: DecodeSettings) -> Any:
        """Start `workers.decode_stream`; the stream gives references, two for each item: pixels or None, then the item."""
        ...

    def cancel(self, stream: Any) -> None:
        """Kill the process behind a stream."""
        ...

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[Any]) -> Any: ...

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        """Those of `refs` that have something to give; at least one, unless the time is over."""
        ...

    def get(self, ref: Any) -> Any:
        """What a decode task gave. Raises VideoError if its process died."""
        ...

    def answer(self, ref: Any, actor: int) -> Answer | None:
        """What a model said; None if it died, and then it is being replaced."""
        ...

    def prepared(self, ref: Any) -> None: ...

    def grow(self) -> None:
        """Start one more model if the job allows it."""
        ...


class Scheduler:
    """The driver's loop over one `process`."""

    def __init__(self, job: Job, cluster: Cluster, meter: WorkMeter, spec: ModelSpec, units: Iterable[Unit]) -> None:
        settings = decode_settings(job, spec)
        self._timeout_seconds = job.decode.timeout
        self._cluster = cluster
        self._meter = meter
        self._assembly = Assembly(spec.labels, top_k=job.output.top_k, min_score=job.output.min_score)
        self._units = iter(units)
        self._units_left = True
        self._again: deque[Unit] = deque()
        self._settings = settings
        self._decoding: dict[Any, _Decoding] = {}
        self._calls: dict[Any, _Call] = {}
        self._batcher: Batcher[Any] = Batcher()
        self._crashes: dict[str, int] = {}
        self._queue_clips = max(1, int(STORE_SHARE * job.ray.object_store / settings.geometry.clip_bytes))

    def run(self, stopped: Callable[[], bool]) -> Iterator[Outcome | None]:
        beat = time.monotonic()
        while not stopped():
            self._start_decoding()
            self._start_calls()
            if not self._decoding and not self._calls and not self._batcher.clips:
                return
            # A queue must be able to hold a batch, whatever the object store allows.
            room = self._batcher.clips < max(self._queue_clips, self._cluster.batch_clips or 1)
            streams = list(self._decoding) if room else []
            ready = self._cluster.wait([*streams, *self._calls, *self._cluster.preparing], HEARTBEAT_SECONDS)
            now = time.monotonic()
            if not streams:
                # They wait for us, not we for them.
                for decoding in self._decoding.values():
                    if decoding.last_sign is not None:
                        decoding.last_sign = now
            for ref in ready:
                if ref in self._decoding:
                    yield from self._advance(self._decoding[ref])
                elif ref in self._calls:
                    yield from self._collect(ref)
                else:
                    self._cluster.prepared(ref)
            yield from self._stop_hanging(now)
            if now - beat > HEARTBEAT_SECONDS:
                beat = now
                yield None

    def cancel(self) -> None:
        """Stop what still runs; its videos are left for another run."""
        for stream in self._decoding:
            self._cluster.cancel(stream)
        self._decoding.clear()

    def _more_units(self) -> bool:
        return bool(self._again) or self._units_left

    def _start_decoding(self) -> None:
        while len(self._decoding) < self._cluster.decode_slots and self._more_units():
            unit = self._again.popleft() if self._again else next(self._units, None)
            if unit is None:
                self._units_left = False
                return
            attempts = deque((video, self._assembly.begin(video)) for video in unit.videos)
            stream = self._cluster.decode(unit, self._settings)
            self._decoding[stream] = _Decoding(stream, unit, attempts)

    def _start_calls(self) -> None:
        """Hand out full batches; a part of one only when nothing is left to fill it."""
        size = self._cluster.batch_clips
        if size is None or not self._cluster.actors:
            return
        drained = not self._decoding and not self._more_units()
        while self._batcher.clips >= size or (drained and self._batcher.clips):
            busy = [call.actor for call in self._calls.values()]
            free = min(self._cluster.actors, key=busy.count)
            if busy.count(free) >= CALLS_PER_ACTOR:
                if self._batcher.clips >= 2 * size:
                    self._cluster.grow()
                return
            batch = self._batcher.take(size)
            ref = self._cluster.predict(free, [(part.start, part.stop) for part in batch], [part.pack for part in batch])
            self._calls[ref] = _Call(free, batch)

    def _advance(self, decoding: _Decoding) -> Iterator[Outcome]:
        """Take the next thing that a decode task has for us."""
        if decoding.last_sign is not None:
            decoding.last_sign = time.monotonic()
        ref = next(decoding.stream, None)
        if ref is None:
            yield from self._ended(decoding)
        elif decoding.pack is None:
            decoding.pack = ref
        else:
            pack, decoding.pack = decoding.pack, None
            try:
                item = self._cluster.get(ref)
            except VideoError as error:
                yield from self._lost(decoding, error)
                return
            yield from self._take(decoding, pack, item)

    def _ended(self, decoding: _Decoding) -> Iterator[Outcome]:
        """A stream is over. If videos are left without a last word, its last reference tells why."""
        if not decoding.attempts:
            del self._decoding[decoding.stream]
            return
        try:
            if decoding.pack is not None:
                self._cluster.get(decoding.pack)
            raise DecoderCrash("the process that decoded it ended without a word")
        except VideoError as error:
            yield from self._lost(decoding, error)

    def _take(self, decoding: _Decoding, pack: Any, item: Any) -> Iterator[Outcome]:
        if isinstance(item, Started):
            decoding.last_sign = time.monotonic()
            return
        attempt = decoding.attempts[0][1]
        if isinstance(item, PackHeader):
            self._batcher.add(attempt, item.first_clip, pack, item.clips)
            return
        decoding.attempts.popleft()
        if isinstance(item, VideoEnd):
            self._meter.stage_seconds["read"] += item.read_seconds
            self._meter.stage_seconds["decode"] += item.decode_seconds
        else:
            self._batcher.drop(attempt)
        outcome = self._assembly.finish(attempt, item)
        if outcome is not None:
            yield outcome

    def _lost(self, decoding: _Decoding, error: VideoError) -> Iterator[Outcome]:
        """A decode task died. Its videos with a last word are safe; the first other one is the suspect, the rest innocent."""
        self._decoding.pop(decoding.stream, None)
        for _, attempt in decoding.attempts:
            self._assembly.forget(attempt)
            self._batcher.drop(attempt)
        if not decoding.attempts:
            return
        (suspect, _), *innocent = decoding.attempts
        self._again.extend(Unit((video,)) for video, _ in innocent)
        self._crashes[suspect.uri] = self._crashes.get(suspect.uri, 0) + 1
        if isinstance(error, DecodeTimeout) or self._crashes[suspect.uri] >= CRASHES_ALLOWED:
            yield Failure(suspect, error.code, str(error))
        else:
            self._again.append(Unit((suspect,)))

    def _stop_hanging(self, now: float) -> Iterator[Outcome]:
        limit = self._timeout_seconds
        hanging = [d for d in self._decoding.values() if d.last_sign is not None and now - d.last_sign > limit]
        for decoding in hanging:
            self._cluster.cancel(decoding.stream)
            yield from self._lost(decoding, DecodeTimeout(f"gave no clip for {limit:g} s (decode.timeout)"))

    def _collect(self, ref: Any) -> Iterator[Outcome]:
        """Give the answers for a batch to their videos; a batch whose actor died is the next to be tried again."""
        call = self._calls.pop(ref)
        answer = self._cluster.answer(ref, call.actor)
        if answer is None:
            self._batcher.put_back([part for part in call.batch if self._assembly.is_open(part.attempt)])
            return
        yield from self._deliver(call.batch, answer)

    def _deliver(self, batch: list[Slice[Any]], answer: Answer) -> Iterator[Outcome]:
        self._meter.clips += len(answer.probabilities)
        self._meter.stage_seconds["infer"] += answer.seconds
        first = 0
        for part in batch:
            rows = slice(first, first + part.clips)
            first += part.clips
            outcome = self._assembly.predicted(
                part.attempt, part.first_clip, answer.probabilities[rows], answer.embeddings[rows]
            )
            if outcome is not None:
                yield outcome
