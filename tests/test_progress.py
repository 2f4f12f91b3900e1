"""What a run says while it works and when it ends, to people and to programs."""

import json
import time
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from indexer import console, report
from indexer.records import Failure, IndexedVideo, MediaInfo, Segment, Skipped, Video
from indexer.report import JsonReporter, Tally


def video(name: str) -> Video:
    return Video(f"/a/{name}", "1-1", 10, 0.0)


def indexed(name: str, *labels: str) -> IndexedVideo:
    nothing = np.zeros(4, np.float16)
    segments = tuple(Segment(n * 1000, n * 1000 + 1000, 1, (label,), (0.9,), nothing) for n, label in enumerate(labels))
    return IndexedVideo(video(name), MediaInfo(0.0, float(len(labels)), 320, 240, "h264", 25.0), segments, ("W_SHORT",))


def failed(name: str) -> Failure:
    return Failure(video(name), "E_CORRUPT", "is damaged")


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Tally:
    """Of a run that has been at work for 100 seconds: three videos are committed, and a failure waits for its commit."""
    for module in (console, report):
        monkeypatch.setattr(module, "LINE_EVERY_SECONDS", 0.0)
    tally = Tally(run_id=7, recipe="r", found=6, unchanged=1, to_do=5, began=time.monotonic() - 100)
    for outcome in (indexed("a.mp4", "yoga", "diving", "yoga"), failed("b.mp4"), Skipped(video("c.mp4"), "no_video")):
        tally.add(outcome)
    tally.finished, tally.finished_seconds, tally.failing = 4, 200.0, 1
    tally.stages["decode"] = 12.34
    return tally


def said_by(tally: Tally, outcome: str | None = None) -> list[str]:
    text = StringIO()
    reporter = console.ConsoleReporter("my job.yaml", "index", console=Console(file=text, width=200))
    if outcome is None:
        reporter.progress(tally)
    else:
        reporter.finished(tally, outcome)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_progress_counts_failures_before_they_are_committed(tally: Tally) -> None:
    (line,) = said_by(tally)
    assert line.startswith("4 of 5 videos, 00:03:20 of video, 2.0 x real time, 2 failed, ")


def test_the_end_names_counts_times_warnings_and_what_to_do_next(tally: Tally) -> None:
    tally.found = 4  # the run is through
    said = said_by(tally, "partial")
    assert said[1:6] == [
        "partial: some videos could not be indexed",
        "4  videos found",
        "1  indexed: 3 segments, 00:00:03 of video",
        "1  unchanged",
        "1  failed",
    ]
    assert "wall time 100.0 s; busy seconds, all workers: decode 12.3" in said
    assert "indexed with a warning: W_SHORT 1" in said
    assert said[-2:] == ["index: index", "next: indexer failures 'my job.yaml'"]


@pytest.mark.parametrize(
    ("run_id", "outcomes", "found", "next_command"),
    [
        (7, [indexed("a.mp4", "arm wrestling")], 1, "indexer search 'arm wrestling' --job 'my job.yaml'"),
        (7, [indexed("a.mp4", "diving", "yoga", "yoga")], 1, "indexer search yoga --job 'my job.yaml'"),
        (7, [indexed("a.mp4", "yoga")], 2, "indexer run 'my job.yaml'"),
        (7, [failed("a.mp4")], 1, "indexer failures 'my job.yaml'"),
        (7, [failed("a.mp4")], 2, "indexer run 'my job.yaml'"),
        (None, [failed("a/")], 1, "indexer run 'my job.yaml'"),
        (7, [], 0, "indexer status 'my job.yaml'"),
    ],
)
def test_the_next_command_can_be_run_as_it_is(
    run_id: int | None, outcomes: list[IndexedVideo | Failure], found: int, next_command: str
) -> None:
    tally = Tally(run_id=run_id, found=found)
    for outcome in outcomes:
        tally.add(outcome)
    assert said_by(tally, "complete")[-1] == f"next: {next_command}"


def test_only_the_first_failures_are_told_each() -> None:
    text = StringIO()
    reporter = console.ConsoleReporter("job.yaml", "index", console=Console(file=text, width=200))
    for number in range(30):
        reporter.outcome(failed(f"{number}\x1b.mp4"))
    said = text.getvalue().splitlines()
    assert said[0] == "E_CORRUPT  /a/0\\x1b.mp4: is damaged"
    assert len(said) == console.FAILURES_SHOWN + 1
    assert said[-1] == "more failures are only counted here; `indexer failures` lists them all"


def test_the_last_event_is_how_the_run_finished_also_when_it_could_not_go_on(
    tally: Tally, capsys: pytest.CaptureFixture[str]
) -> None:
    out = StringIO()
    reporter = JsonReporter(out)
    reporter.started(tally)
    reporter.progress(tally)
    reporter.failed("the disk is full", 14)
    started, progress, finished = (json.loads(line) for line in out.getvalue().splitlines())
    assert started["videos"] == {"found": 6, "unchanged": 1, "gone": 0, "to_do": 5}
    assert progress == {"event": "progress", "done": 4, "to_do": 5, "failed": 2, "video_seconds": 200.0}
    assert (finished["event"], finished["outcome"], finished["run_id"]) == ("run_finished", "failed", 7)
    assert (finished["message"], finished["exit_code"]) == ("the disk is full", 14)
    assert finished["videos"] == {
        "found": 6, "indexed": 1, "unchanged": 1, "failed": 1, "skipped": 1, "gone": 0, "left": 2,
    }  # fmt: skip
    assert capsys.readouterr().err == "the disk is full\n"
