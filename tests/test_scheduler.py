"""The driver's loop beside processes that do everything at the second that a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from indexer.config import Job, load_job
from indexer.errors import DecoderCrash, ExecutionError
from indexer.execute.base import WorkMeter
from indexer.execute.cluster import Lost, MachineLost
from indexer.execute.scheduler import Scheduler, most_batch_clips
from indexer.execute.workers import Answer, PackHeader, Sign, decode_settings
from indexer.records import (
    ClipGeometry,
    Failure,
    IndexedRange,
    MediaInfo,
    Outcome,
    SegmentSpan,
    Skipped,
    Unit,
    Video,
    VideoEnd,
)
from tests.archives import Archive

GEOMETRY = ClipGeometry(frames=2, fps=15, resize=(128, 171), crop=(112, 112))
PACK_CLIPS = GEOMETRY.pack_clips
PACK_BYTES = PACK_CLIPS * GEOMETRY.clip_bytes

STARTED = (0, Sign.STARTED)
DIED = (1, DecoderCrash("the process that decoded it died"))


def video(name: str) -> Video:
    return Video(name, "1-1", 1, 0.0)


def unit(*names: str) -> Unit:
    return Unit(tuple(video(name) for name in names))


def nothing_in(name: str) -> Skipped:
    return Skipped(video(name), "no_video")


def end_of(name: str, clips: int) -> VideoEnd:
    return VideoEnd(video(name), MediaInfo(0, 1, 9, 9, "h264", 25), (SegmentSpan(0, 1, clips),), (), 0, 0)


@dataclass(eq=False)
class Stream:
    """What a decode task says, and when; an item that is an exception is raised where it is fetched."""

    script: list[tuple[float, Any]]
    taken: int = 0

    @property
    def next_seconds(self) -> float:
        """When it has something to give, if only that it is over."""
        return self.script[self.taken // 2][0] if self.taken < 2 * len(self.script) else -inf

    def __next__(self) -> Any:
        if self.taken == 2 * len(self.script):
            raise StopIteration
        item = self.script[self.taken // 2][1]
        self.taken += 1
        return Pixels() if self.taken % 2 else item


@dataclass(eq=False)
class Pixels:
    """Or none: the first of the two things that a task gives for each item."""


@dataclass(eq=False)
class Call:
    clips: int
    next_seconds: float


@dataclass
class Scripted:
    """See `cluster.Cluster`. `scripts` gives, for the first video of a unit, what each try at it says."""

    scripts: dict[str, list[list[tuple[float, Any]]]]
    answer_seconds: float = 0.0
    decode_slots: int = 3
    store_bytes: int = 1_000_000_000
    batch_clips: int | None = PACK_CLIPS
    actors: list[int] = field(default_factory=lambda: [0])
    preparing: list[Any] = field(default_factory=list)
    now: float = 0.0
    begun: list[tuple[str, ...]] = field(default_factory=list)
    cancelled: int = 0
    models_lost: int = 0
    """So many answers do not come, as the model dies."""
    loses: Literal["model", "machine"] = "model"

    def decode(self, unit: Unit, settings: object) -> Stream:
        self.begun.append(tuple(video.uri for video in unit.videos))
        return Stream([(self.now + seconds, item) for seconds, item in self.scripts[unit.videos[0].uri].pop(0)])

    def cancel(self, stream: Stream) -> None:
        self.cancelled += 1

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[Any]) -> Call:
        return Call(sum(stop - start for start, stop in slices), self.now + self.answer_seconds)

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        ready = [ref for ref in refs if ref.next_seconds <= self.now][:1]
        if not ready:
            self.now += timeout_seconds
        return ready

    def get(self, ref: Any) -> Any:
        if isinstance(ref, Exception):
            raise ref
        return ref

    def answer(self, ref: Call, actor: int) -> Answer | Lost:
        if self.models_lost:
            self.models_lost -= 1
            return Lost(self.loses, "it died")
        return Answer(np.full((ref.clips, 2), 0.5, np.float32), np.zeros((ref.clips, 2), np.float32), 0.0)

    def prepared(self, ref: Any) -> None: ...

    def grow(self) -> None: ...

    def shrink(self, actor: int) -> None: ...


class Forgetful:
    """Staging that keeps nothing."""

    def load(self, video: Video) -> list[IndexedRange]:
        return []

    def save(self, finished: IndexedRange) -> None: ...


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return load_job(Archive(tmp_path).write_job(decode={"timeout": "10s"}))


def run(
    job: Job,
    cluster: Scripted,
    units: Iterable[Unit],
    *,
    give_up_seconds: float = 2000,
    late: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome | None]:
    scheduler = Scheduler(
        job, cluster, WorkMeter(), SimpleNamespace(labels=("a", "b")), decode_settings(job, GEOMETRY), units, Forgetful(),
        clock=lambda: cluster.now,
    )  # type: ignore[arg-type]  # fmt: skip
    return scheduler.run(lambda: cluster.now > give_up_seconds, late)


def codes(outcomes: Iterable[Outcome | None]) -> dict[str, str]:
    """What became of each video."""
    found = [outcome for outcome in outcomes if outcome is not None]
    return {outcome.video.uri: outcome.code if isinstance(outcome, Failure) else type(outcome).__name__ for outcome in found}


def test_a_driver_that_was_busy_with_something_else_blames_no_video(job: Job) -> None:
    cluster = Scripted({
        "a": [[STARTED, (1, nothing_in("a"))]],
        "b": [[STARTED, (5, nothing_in("b"))]],  # it is there when the driver looks again
        "c": [[STARTED, (108, nothing_in("c"))]],  # it stood still together with the driver
    })  # fmt: skip
    outcomes = []
    for outcome in run(job, cluster, [unit("a"), unit("b"), unit("c")]):
        outcomes.append(outcome)
        if outcome == nothing_in("a"):
            cluster.now += 100
    assert codes(outcomes) == {"a": "Skipped", "b": "Skipped", "c": "Skipped"}


def test_a_decoder_that_hangs_is_stopped_also_while_the_model_is_what_everything_waits_for(job: Job) -> None:
    packs = [(1.0, PackHeader(number * PACK_CLIPS, PACK_CLIPS)) for number in range(6)]
    cluster = Scripted(
        {
            "hangs": [[STARTED, (inf, None)]],
            "works": [[STARTED, *packs, (1, end_of("works", 6 * PACK_CLIPS))]],
        },
        answer_seconds=100,
        store_bytes=10 * PACK_BYTES,
    )
    outcomes = []
    for outcome in run(job, cluster, [unit("hangs"), unit("works")]):
        outcomes.append(outcome)
        if isinstance(outcome, Failure):
            assert 10 < cluster.now < 50
    assert codes(outcomes) == {"hangs": "E_TIMEOUT", "works": "IndexedVideo"}


def test_a_process_that_dies_before_it_has_begun_is_charged_to_no_video(job: Job) -> None:
    cluster = Scripted(
        {"a": [[DIED], [DIED], [DIED], [STARTED, (1, nothing_in("a"))]], "b": [[STARTED, (1, nothing_in("b"))]]}
    )
    assert codes(run(job, cluster, [unit("a", "b")])) == {"a": "Skipped", "b": "Skipped"}
    assert cluster.begun == [("a", "b"), ("b",), ("a",), ("a",), ("a",)]


def test_workers_that_never_begin_end_the_run_with_the_cause(job: Job) -> None:
    cluster = Scripted({name: [[DIED]] * 20 for name in "abcd"})
    with pytest.raises(ExecutionError, match=r"no worker lives long enough to work: before it had begun, the process .* died"):
        list(run(job, cluster, [unit(name) for name in "abcd"]))


def test_a_large_machine_that_is_lost_counts_once(job: Job) -> None:
    lost = (1, MachineLost("the machine that decoded it was lost"))
    names = [f"v{number}" for number in range(30)]
    cluster = Scripted({name: [[STARTED, lost], [STARTED, (1, nothing_in(name))]] for name in names}, decode_slots=30)
    assert codes(run(job, cluster, [unit(name) for name in names])) == dict.fromkeys(names, "Skipped")


def test_a_video_that_loses_its_machine_more_often_than_it_may_crash_is_not_charged(job: Job) -> None:
    lost = [STARTED, (1, MachineLost("the machine that decoded it was lost"))]
    cluster = Scripted({"a": [lost, lost, lost, [STARTED, (1, nothing_in("a"))]]})
    assert codes(run(job, cluster, [unit("a")])) == {"a": "Skipped"}


def test_a_crash_is_charged_to_the_video_at_work_and_not_to_its_neighbours(job: Job) -> None:
    cluster = Scripted({
        "a": [[STARTED, DIED], [STARTED, DIED]],
        "b": [[STARTED, DIED], [STARTED, (1, nothing_in("b"))]],
    })  # fmt: skip
    assert codes(run(job, cluster, [unit("a", "b")])) == {"a": "E_DECODER_CRASH", "b": "Skipped"}


def test_a_crash_after_the_video_at_work_has_failed_is_charged_to_nobody(job: Job) -> None:
    cluster = Scripted(
        {
            "a": [[STARTED, (1, PackHeader(0, PACK_CLIPS)), (20, DecoderCrash("it died"))]],
            "b": [[STARTED, DIED], [STARTED, (1, nothing_in("b"))]],
        },
        models_lost=2,
    )
    job = job.model_copy(update={"decode": job.decode.model_copy(update={"timeout": 100.0})})
    assert codes(run(job, cluster, [unit("a", "b")])) == {"a": "E_MODEL_CRASH", "b": "Skipped"}


def test_a_video_that_takes_too_much_memory_is_tried_once_more_alone_in_another_process(job: Job) -> None:
    too_much = [STARTED, (1, Sign.OUT_OF_MEMORY)]
    cluster = Scripted({"a": [too_much, too_much], "b": [too_much, [STARTED, (1, nothing_in("b"))]]})
    assert codes(run(job, cluster, [unit("a", "b")])) == {"a": "E_OUT_OF_MEMORY", "b": "Skipped"}
    assert (cluster.begun, cluster.cancelled) == ([("a", "b"), ("b",), ("a",), ("b",)], 3)


def test_a_batch_never_takes_more_than_its_share_of_the_store() -> None:
    s3d = ClipGeometry(frames=128, fps=15, resize=(256, 256), crop=(224, 224))  # 19.3 MB a clip
    assert most_batch_clips(Scripted({}, decode_slots=2, store_bytes=512_000_000), s3d) == 11
    assert most_batch_clips(Scripted({}, decode_slots=16, store_bytes=512_000_000), s3d) == 5
    assert most_batch_clips(Scripted({}, store_bytes=80_000_000), s3d) == 1
    assert most_batch_clips(Scripted({}, decode_slots=16, store_bytes=2_000_000_000), GEOMETRY) > 32


def short_videos(names: Iterable[str]) -> dict[str, list[list[tuple[float, Any]]]]:
    return {name: [[STARTED, (1, PackHeader(0, PACK_CLIPS)), (1, end_of(name, PACK_CLIPS))]] for name in names}


def test_videos_that_lose_the_machine_of_the_model_are_not_blamed(job: Job) -> None:
    cluster = Scripted(short_videos("a"), models_lost=5, loses="machine")
    assert codes(run(job, cluster, [unit("a")])) == {"a": "IndexedVideo"}


def test_poisonous_videos_side_by_side_cost_themselves_only(job: Job) -> None:
    names = "abcdefgh"
    cluster = Scripted(short_videos(names), decode_slots=1)
    outcomes = []
    for outcome in run(job, cluster, [unit(name) for name in names]):
        if outcome is not None:
            outcomes.append(outcome)
            if len(outcomes) == 1:
                cluster.models_lost = 10  # two tries each
    assert sorted(codes(outcomes).values()) == ["E_MODEL_CRASH"] * 5 + ["IndexedVideo"] * 3


def test_a_model_that_never_answers_ends_the_run_with_the_cause(job: Job) -> None:
    cluster = Scripted(short_videos("abcdefgh"), models_lost=100)
    with pytest.raises(ExecutionError, match=r"the model failed on 3 videos in a row, at last because: it died"):
        list(run(job, cluster, [unit(name) for name in "abcdefgh"]))
