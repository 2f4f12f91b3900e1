"""The decode tasks at work: which unit is next, what each has to say, whose fault a lost one is.

A task's stream gives two references for each item, pixels and then what they are. Nothing retries by itself below: whether a
video is tried again is decided here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexer.errors import DecoderCrash, DecodeTimeout, ExecutionError, OutOfMemory, VideoError
from indexer.execute.assembly import Assembly, Attempt
from indexer.execute.base import WorkMeter
from indexer.execute.batching import Batcher
from indexer.execute.cluster import Cluster, MachineLost
from indexer.execute.workers import PackHeader, Sign
from indexer.records import Failure, Outcome, Split, Unit, VideoEnd

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings

CRASHES_ALLOWED = 2
"""A video whose decoder died this often is given up."""
LOSSES_ALLOWED = 10
"""So often a video may be unlucky with the machine that it is on; and so often in a row all videos together."""


@dataclass(slots=True)
class _Task:
    """One decode task at work."""

    number: int
    """Of tasks begun before it."""
    stream: Any
    unit: Unit
    attempts: deque[Attempt]
    """Of the videos that have no last word yet; the first one is being decoded."""
    pack: Any = None
    """Pixels whose header comes next."""
    last_sign: float | None = None
    """On the clock that `advance` is given; None while it waits for a core."""


class Decoders:
    """All decode tasks of one run."""

    def __init__(
        self,
        cluster: Cluster,
        settings: DecodeSettings,
        units: Iterable[Unit],
        assembly: Assembly,
        batcher: Batcher[Any],
        meter: WorkMeter,
        *,
        timeout_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._units = iter(units)
        self._units_left = True
        self._first: deque[Unit] = deque()
        """Done before all other units: ranges of long videos, and what was lost."""
        self._assembly = assembly
        self._batcher = batcher
        self._meter = meter
        self._timeout_seconds = timeout_seconds
        self._tasks: dict[Any, _Task] = {}
        self._crashes: Counter[Unit] = Counter()
        self._losses: Counter[Unit] = Counter()
        self._losses_in_a_row = 0
        self._begun = 0
        self._begun_at_last_loss = 0

    @property
    def streams(self) -> list[Any]:
        return list(self._tasks)

    def owns(self, stream: Any) -> bool:
        return stream in self._tasks

    @property
    def drained(self) -> bool:
        """Whether nothing more will come."""
        return not self._tasks and not self._first and not self._units_left

    def fill(self, slots: int) -> None:
        """Start tasks until `slots` are at work."""
        while len(self._tasks) < slots and (unit := self._next_unit()) is not None:
            attempts = deque(self._assembly.begin(unit))
            stream = self._cluster.decode(unit, self._settings)
            self._tasks[stream] = _Task(self._begun, stream, unit, attempts)
            self._begun += 1

    def begin_no_more(self) -> None:
        """What is not begun is left for another run."""
        self._first.clear()
        self._units_left = False

    def redo(self, attempt: Attempt, reason: str) -> Iterator[Outcome]:
        """Decode once more what was lost on its way to the model."""
        self._batcher.drop(attempt)
        yield from self._charge(self._assembly.again(attempt), MachineLost(f"its clips were lost: {reason}"))

    def advance(self, stream: Any, now: float) -> Iterator[Outcome]:
        """Take the next thing that a task has for us. `now`: seconds for which anybody has listened to decoders so far."""
        task = self._tasks[stream]
        if task.last_sign is not None:
            task.last_sign = now
        ref = next(task.stream, None)
        try:
            if ref is None:
                self._ended(task)
            elif task.pack is None:
                task.pack = ref
            else:
                pack, task.pack = task.pack, None
                yield from self._take(task, pack, self._cluster.get(ref), now)
        except (VideoError, MachineLost) as error:
            yield from self._lost(task, error)

    def stop_hanging(self, now: float) -> Iterator[Outcome]:
        """Kill tasks that gave no sign for decode.timeout, unless a sign is there that nobody has taken yet."""
        limit = self._timeout_seconds
        for task in [t for t in self._tasks.values() if t.last_sign is not None and now - t.last_sign > limit]:
            if self._cluster.wait([task.stream], 0):
                task.last_sign = now
                continue
            self._cluster.cancel(task.stream)
            yield from self._lost(task, DecodeTimeout(f"gave no clip for {limit:g} s (decode.timeout)"))

    def cancel(self) -> None:
        """Stop what still runs; its videos are left for another run."""
        for stream in self._tasks:
            self._cluster.cancel(stream)
        self._tasks.clear()

    def _next_unit(self) -> Unit | None:
        while self._first:
            first = self._first.popleft()
            if self._assembly.wants(first):
                return first
        unit = next(self._units, None) if self._units_left else None
        self._units_left = unit is not None
        return unit

    def _ended(self, task: _Task) -> None:
        """A stream is over. If videos are left without a last word, its last reference tells why."""
        if task.attempts:
            if task.pack is not None:
                self._cluster.get(task.pack)
            raise DecoderCrash("the process that decoded it ended without a word")
        del self._tasks[task.stream]

    def _take(self, task: _Task, pack: Any, item: Any, now: float) -> Iterator[Outcome]:
        self._losses_in_a_row = 0
        if item is Sign.OUT_OF_MEMORY:
            self._cluster.cancel(task.stream)  # what it leaked goes with its process
            raise OutOfMemory("decoding it took more memory than one decoder may have")
        if item is Sign.STARTED:
            task.last_sign = now
            return
        attempt = task.attempts[0]
        wanted = self._assembly.is_open(attempt)
        if isinstance(item, PackHeader):
            if wanted:
                self._batcher.add(attempt, item.first_clip, pack, item.clips)
            elif task.unit.segments is not None:
                self._drop(task)  # the video failed elsewhere: the rest of this range is of no use
            return
        task.attempts.popleft()
        if not wanted:
            return
        if isinstance(item, Split):
            units, outcome = self._assembly.split(attempt, item)
            self._first.extend(units)
        else:
            outcome = self._assembly.finish(attempt, item)
        if isinstance(item, VideoEnd):
            self._meter.stage_seconds["read"] += item.read_seconds
            self._meter.stage_seconds["decode"] += item.decode_seconds
            self._count_fetched(task.unit, item)
            self._meter.video_seconds += sum(span.end_seconds - span.start_seconds for span in item.segments)
        else:
            self._batcher.drop(attempt)
        if outcome is not None:
            yield outcome

    def _count_fetched(self, unit: Unit, end: VideoEnd) -> None:
        self._meter.fetched_bytes += end.fetched_bytes
        self._meter.fetch_wait_seconds += end.fetch_wait_seconds
        if end.fetched_bytes and (unit.segments is None or unit.segments[0] == 0):  # of a long video, once
            self._meter.fetched_of_bytes += end.video.size_bytes

    def _drop(self, task: _Task) -> None:
        self._cluster.cancel(task.stream)
        del self._tasks[task.stream]

    def _lost(self, task: _Task, error: VideoError | MachineLost) -> Iterator[Outcome]:
        """A task died. Its videos with a last word are safe; the one at work is the suspect, the rest are innocent."""
        del self._tasks[task.stream]
        at_work = task.attempts[0] if task.attempts else None
        for attempt in task.attempts:
            self._batcher.drop(attempt)
        lost = {attempt: self._assembly.again(attempt) for attempt in task.attempts if self._assembly.is_open(attempt)}
        suspect = None if at_work is None else lost.pop(at_work, None)
        self._first.extend(lost.values())
        if task.last_sign is None and not isinstance(error, MachineLost):
            error = MachineLost(f"before it had begun, {error}")
        if isinstance(error, MachineLost):
            self._count_loss(task, error)
        if suspect is not None:
            yield from self._charge(suspect, error)

    def _count_loss(self, task: _Task, error: MachineLost) -> None:
        """All tasks of one machine are lost at once: only one that was begun after the last loss is another one."""
        if task.number >= self._begun_at_last_loss:
            self._begun_at_last_loss = self._begun
            self._losses_in_a_row += 1
        if self._losses_in_a_row >= LOSSES_ALLOWED:
            raise ExecutionError(f"no worker lives long enough to work: {error}. Finished videos are safe; run it again")

    def _charge(self, suspect: Unit, error: VideoError | MachineLost) -> Iterator[Outcome]:
        """Try it again, unless that was in vain too often."""
        if self._given_up(suspect, error):
            video = suspect.videos[0]
            self._assembly.close(video)
            yield Failure(video, error.code if isinstance(error, VideoError) else DecoderCrash.code, str(error))
        else:
            self._first.append(suspect)

    def _given_up(self, suspect: Unit, error: VideoError | MachineLost) -> bool:
        if isinstance(error, MachineLost):
            self._losses[suspect] += 1
            return self._losses[suspect] >= LOSSES_ALLOWED
        self._crashes[suspect] += 1
        return isinstance(error, DecodeTimeout) or self._crashes[suspect] >= CRASHES_ALLOWED
