"""What a plan says a run will take, from runs before it."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from indexer.catalog.commit import finish_run, start_run
from indexer.catalog.lease import acquire
from indexer.config import Job, load_job
from indexer.estimate import PastRun, estimate, extrapolate
from indexer.plan.listing import list_source
from indexer.records import Video
from indexer.report import Tally, this_machine
from tests import catalogs
from tests.archives import Archive
from tests.catalogs import LABELS, RECIPES

GROWTH = json.loads((Path(__file__).parents[1] / "benchmarks/results/growth.json").read_text())
VIDEOS = (1, 10, 100)


def recorded(decoders: int) -> list[PastRun]:
    """Runs that `python -m benchmarks growth` timed."""
    hours = [count * GROWTH["video_seconds"] / 3600 for count in VIDEOS]
    paces = [GROWTH["seconds_per_hour_of_video"][f"{count} videos, {decoders} decoders"] for count in VIDEOS]
    return [
        PastRun(3600 * some, some * pace["wall"], some * (pace["wall"] - pace["after_start"]))
        for some, pace in zip(hours, paces, strict=True)
    ]


@pytest.mark.parametrize("decoders", [1, 2])
@pytest.mark.parametrize("left_out", range(3))
def test_a_run_takes_what_runs_of_other_lengths_say(decoders: int, left_out: int) -> None:
    others = recorded(decoders)
    run = others.pop(left_out)
    assert extrapolate(others, run.video_seconds) == pytest.approx(run.wall_seconds, rel=0.25)


@pytest.mark.parametrize("decoders", [1, 2])
@pytest.mark.parametrize(("known", "asked"), [(1, 0), (2, 0), (2, 1), (1, 2)])
def test_one_run_of_a_minute_of_video_or_more_is_enough(decoders: int, known: int, asked: int) -> None:
    runs = recorded(decoders)
    said = extrapolate([runs[known]], runs[asked].video_seconds)
    assert said == pytest.approx(runs[asked].wall_seconds, rel=0.35)


def test_one_run_gives_its_start_and_its_pace() -> None:
    assert extrapolate([PastRun(3600, 600, 0)], 7200) == pytest.approx(1200)
    assert extrapolate([PastRun(3600, 612, 12)], 7200) == pytest.approx(1212)
    alike = [PastRun(3600, 610, 10), PastRun(3000, 610, 10), PastRun(3200, 650, 10)]
    assert extrapolate(alike, 6400) == pytest.approx(1290)


def test_a_long_run_that_was_quicker_than_a_short_one_makes_no_nonsense() -> None:
    assert extrapolate([PastRun(100, 500, 0), PastRun(1000, 400, 0)], 10) == pytest.approx(27)  # the median pace


seconds = st.floats(1, 1e6)
past_runs = st.builds(lambda video, wall, share: PastRun(video, wall, wall * share), seconds, seconds, st.floats(0, 1))


@given(st.lists(past_runs, min_size=1, max_size=20), st.floats(0, 1e7))
def test_no_history_makes_a_run_end_before_it_began(past: list[PastRun], video_seconds: float) -> None:
    assert extrapolate(past, video_seconds) >= 0


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def job(archive: Archive) -> Job:
    return load_job(archive.write_job(sampling={"segment": "2s"}))


def listed(job: Job) -> list[Video]:
    return [item for item in list_source(job.source, now=time.time(), warn=pytest.fail) if isinstance(item, Video)]


@pytest.fixture
def three(archive: Archive, job: Job) -> list[Video]:
    """Six seconds of video."""
    for number in range(3):
        archive.add(f"{number}.mp4", width=64, height=48)
    return listed(job)


def past(engine: Engine, job: str, recipe: str = "A", *, times: int = 1, outcome: str = "complete", **report: Any) -> None:
    """Runs that took so long."""
    for _ in range(times):
        with acquire(engine, job) as lease:
            run = start_run(engine, lease=lease, recipe=RECIPES[recipe], labels=LABELS)
            finish_run(engine, run, outcome, Tally().as_event(outcome) | report)


def test_the_length_is_exact_for_few_videos_and_sampled_for_many(archive: Archive, job: Job, three: list[Video]) -> None:
    (archive.videos / "bad.mp4").write_text("no video")
    found = estimate(listed(job), job, None, RECIPES["A"])
    assert (found.video_seconds, found.sampled, found.segments, found.wall_seconds) == (6.0, 4, 3, None)
    for number in range(47):
        shutil.copy(archive.videos / "0.mp4", archive.videos / f"copy{number}.mp4")
    (archive.videos / "bad.mp4").unlink()
    many = estimate(listed(job), job, None, RECIPES["A"])
    assert many.video_seconds == pytest.approx(100, rel=0.01)  # one is a little larger than the others
    assert many.sampled == 17
    assert estimate([], job, None, RECIPES["A"]).video_seconds == 0


def test_the_index_grows_as_it_has_grown(job: Job, engine: Engine, three: list[Video]) -> None:
    assert estimate(three, job, engine, RECIPES["A"]).index_bytes == 3 * (2000 + 3 * 24)
    catalogs.index(engine, catalogs.indexed("x.mp4", "1", ("yoga", 0.5), ("archery", 0.5)))  # ten bytes of part a row
    assert estimate(three, job, engine, RECIPES["A"]).index_bytes == 3 * (10 + 3 * 24)


def test_nights_without_news_and_other_jobs_do_not_hide_what_a_run_takes(job: Job, engine: Engine, three: list[Video]) -> None:
    past(engine, "test", video_seconds=60.0, wall_seconds=70.0, startup_seconds=10.0)
    past(engine, "test", times=25)
    past(engine, "test", outcome="failed", video_seconds=60.0, wall_seconds=9000.0)
    past(engine, "test", "B", video_seconds=60.0, wall_seconds=9000.0)
    past(engine, "other", times=25, video_seconds=60.0, wall_seconds=9000.0)
    assert estimate(three, job, engine, RECIPES["A"]).wall_seconds == pytest.approx(16)


def test_runs_on_this_machine_count_more_than_those_on_others(job: Job, engine: Engine, three: list[Video]) -> None:
    elsewhere = {"host": "large", "cpus": 64}
    past(engine, "test", video_seconds=60.0, wall_seconds=6.0, machine=elsewhere)
    assert estimate(three, job, engine, RECIPES["A"]).wall_seconds == pytest.approx(0.6)
    past(engine, "test", video_seconds=60.0, wall_seconds=60.0, machine=this_machine())
    past(engine, "test", video_seconds=60.0, wall_seconds=6.0, machine=elsewhere)
    assert estimate(three, job, engine, RECIPES["A"]).wall_seconds == pytest.approx(6)
