"""What a person sees while a run is at work."""

import time
from io import StringIO

import pytest
from rich.console import Console

from indexer import console
from indexer.report import Tally


def at_work(**counts: float) -> Tally:
    """A run that has gone on for 110 seconds, ten of which it took to start."""
    return Tally(began=time.monotonic() - 110, startup_seconds=10, to_do=10, to_do_bytes=1000, **counts)  # type: ignore[arg-type]


def test_the_time_left_follows_the_size_of_what_is_left_and_leaves_the_start_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 0.0)
    said = StringIO()
    shown = console.ConsoleReporter("job.yaml", "index", console=Console(file=said, width=200))
    shown.progress(at_work())
    shown.progress(at_work(finished=1, finished_bytes=800, finished_seconds=220.0))  # the largest comes first
    first, second = said.getvalue().splitlines()
    assert first == "0 of 10 videos, 00:00:00 of video, 0.0 x real time, 0 failed, time left unknown"
    assert second == "1 of 10 videos, 00:03:40 of video, 2.0 x real time, 0 failed, about 00:00:25 left"


def test_the_ranges_of_a_long_video_are_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 0.0)
    said = StringIO()
    shown = console.ConsoleReporter("job.yaml", "index", console=Console(file=said, width=200))
    shown.progress(at_work(underway_bytes=200, underway_seconds=1100.0))
    shown.progress(at_work(finished=10, finished_bytes=1000, underway_bytes=200))  # just finished, and not yet taken away
    first, second = said.getvalue().splitlines()
    assert first == "0 of 10 videos, 00:18:20 of video, 10.0 x real time, 0 failed, about 00:06:40 left"
    assert second.endswith("about 00:00:00 left")


def test_a_terminal_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    said = StringIO()
    shown = console.ConsoleReporter("job.yaml", "index", console=Console(file=said, width=200, force_terminal=True))
    tally = at_work(finished=1, finished_bytes=800, finished_seconds=220.0)
    shown.started(tally)
    shown.progress(tally)
    shown.failed("the end", 1)
    assert "1 of 10 videos, 00:03:40 of video, 2.0 x real time, 0 failed, about 00:00:25 left" in said.getvalue()
