"""The driver's loop: keeps decoders and models busy, and what lies between them within its share of memory.

    units -> decode tasks --(pack, header), (pack, header), ... , (None, last word)--> batcher -> models -> assembly

Only headers, last words and answers come to this process; pixels go from the decoder's memory to the model's. Imports no ray:
`Cluster` is what it needs of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from indexer.config import Job
from indexer.execute.assembly import Assembly
from indexer.execute.base import WorkMeter
from indexer.execute.batching import Batcher
from indexer.execute.calls import Calls
from indexer.execute.cluster import Cluster
from indexer.execute.decoders import Decoders
from indexer.execute.ranges import Staging
from indexer.infer.models import ModelSpec
from indexer.records import ClipGeometry, Outcome, Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings

HEARTBEAT_SECONDS = 0.5
WATCHED_SECONDS = 2 * HEARTBEAT_SECONDS
"""At most so much of a turn of the loop counts as waiting for decoders: in a longer one this process did something else, or
the whole machine stood still."""
STORE_SHARE = 0.6
"""Of the object store may be filled; the rest is room for what is being copied, and for a store that is not quite empty."""
PACKS_AHEAD = 2
"""A decoder stops when it has made so many that nobody has taken yet."""
HANDS_SHARE = 0.7
"""Of our share may be packs that nobody has taken yet; the rest is the queue."""


def decoders_at_once(cluster: Cluster, geometry: ClipGeometry) -> int:
    """What they hold in their hands must find room in memory, too."""
    hands_bytes = PACKS_AHEAD * geometry.pack_clips * geometry.clip_bytes
    return max(1, min(cluster.decode_slots, int(HANDS_SHARE * STORE_SHARE * cluster.store_bytes) // hands_bytes))


def hands_bytes(cluster: Cluster, geometry: ClipGeometry) -> int:
    """Most bytes of packs that all decoders have made and nobody has taken yet."""
    return decoders_at_once(cluster, geometry) * PACKS_AHEAD * geometry.pack_clips * geometry.clip_bytes


def most_batch_clips(cluster: Cluster, geometry: ClipGeometry) -> int:
    """As many as find room beside what decoders hold in their hands."""
    return max(1, (int(STORE_SHARE * cluster.store_bytes) - hands_bytes(cluster, geometry)) // geometry.clip_bytes)


class Scheduler:
    """The driver's loop over one `process`."""

    def __init__(
        self,
        job: Job,
        cluster: Cluster,
        meter: WorkMeter,
        spec: ModelSpec,
        settings: DecodeSettings,
        units: Iterable[Unit],
        staging: Staging,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._meter = meter
        self._batcher: Batcher[Any] = Batcher(settings.geometry.clip_bytes)
        self._assembly = assembly = Assembly(spec.labels, staging, top_k=job.output.top_k, min_score=job.output.min_score)
        self._decoders = Decoders(cluster, settings, units, assembly, self._batcher, meter, timeout_seconds=job.decode.timeout)
        self._calls = Calls(cluster, assembly, self._batcher, meter, redo=self._decoders.redo)
        self._slots = decoders_at_once(cluster, settings.geometry)
        self._hands_bytes = hands_bytes(cluster, settings.geometry)

    def run(self, stopped: Callable[[], bool], late: Callable[[], bool]) -> Iterator[Outcome | None]:
        """See `Executor.process`."""
        beat = looked = self._clock()
        watched = 0.0
        while not stopped():
            self._note_underway()
            if late():
                self._decoders.begin_no_more()
            self._decoders.fill(self._slots)
            self._calls.fill(drained=self._decoders.drained)
            if self._decoders.drained and not self._calls.waiting and not self._batcher.clips:
                return
            streams = self._decoders.streams if self._room() else []
            ready = self._cluster.wait([*self._calls.refs, *streams, *self._cluster.preparing], HEARTBEAT_SECONDS)
            self._meter.queue_bytes = self._batcher.alive_bytes
            now = self._clock()
            watched += min(now - looked, WATCHED_SECONDS)
            looked = now
            for ref in ready:
                if self._decoders.owns(ref):
                    yield from self._decoders.advance(ref, watched)
                elif self._calls.owns(ref):
                    yield from self._calls.collect(ref)
                else:
                    self._cluster.prepared(ref)
            yield from self._decoders.stop_hanging(watched)
            if now - beat > HEARTBEAT_SECONDS:
                beat = now
                self._calls.rest(now)
                yield None
        self._note_underway()

    def cancel(self) -> None:
        """Stop what still runs; its videos are left for another run."""
        self._decoders.cancel()

    def _note_underway(self) -> None:
        self._meter.underway_bytes, self._meter.underway_seconds = self._assembly.underway

    def _room(self) -> bool:
        """Whether one more pack may be taken. What completes a batch that nothing else can start always may."""
        starving = not self._calls.waiting and self._batcher.clips < (self._cluster.batch_clips or 1)
        return starving or self._batcher.alive_bytes + self._hands_bytes < STORE_SHARE * self._cluster.store_bytes
