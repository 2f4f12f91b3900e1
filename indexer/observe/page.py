"""The report of a run: one HTML page beside its index, which needs nothing else to be looked at.

    INDEX/reports/run-17.html      the last REPORTS_KEPT runs that did something
    INDEX/reports/latest.html      the newest of them

An index in S3 has none; `indexer status` tells how its runs went.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from indexer.config import Job
from indexer.errors import VIDEO_ERRORS
from indexer.observe.listeners import Silent
from indexer.records import Failure, IndexedVideo, Outcome
from indexer.report import Tally

FOLDER = "reports"
REPORTS_KEPT = 30
ROWS = 10
"""Of each table of labels and of videos."""
FAILURES = 200
POINTS = 240
"""Of the line that shows the pace; with more, every second one goes."""


class RunPage(Silent):
    """Writes the page when the run ends."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        self._job = job
        self._warn = warn
        self._tally: Tally | None = None
        self._labels: Counter[str] = Counter()
        self._longest: list[tuple[float, str, int]] = []
        self._failures: list[Failure] = []
        self._points = [(0.0, 0.0)]
        self._apart_seconds = 0.5
        self._did_something = False

    def started(self, tally: Tally) -> None:
        self._tally = tally

    def outcome(self, outcome: Outcome) -> None:
        self._did_something = True
        if isinstance(outcome, IndexedVideo):
            self._labels.update(segment.labels[0] for segment in outcome.segments if segment.labels)
            heapq.heappush(self._longest, (outcome.info.duration_seconds, outcome.video.uri, len(outcome.segments)))
            if len(self._longest) > ROWS:
                heapq.heappop(self._longest)
        elif isinstance(outcome, Failure) and len(self._failures) < FAILURES:
            self._failures.append(outcome)

    def progress(self, tally: Tally) -> None:
        if tally.wall_seconds - self._points[-1][0] < self._apart_seconds:
            return
        self._points.append((tally.wall_seconds, tally.finished_seconds))
        if len(self._points) > POINTS:
            self._points = self._points[::2]
            self._apart_seconds *= 2

    def finished(self, tally: Tally, outcome: str) -> None:
        self._points.append((tally.wall_seconds, tally.finished_seconds))
        self._write(tally, outcome, "")

    def failed(self, message: str, exit_code: int) -> None:
        if self._tally is not None:
            self._write(self._tally, "failed", message)

    def _write(self, tally: Tally, outcome: str, message: str) -> None:
        if not self._did_something:
            return
        folder = Path(self._job.output.uri) / FOLDER
        page = _TEMPLATES.get_template("run.html").render(
            job=self._job,
            event=tally.as_event(outcome),
            message=message,
            ended=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            labels=self._labels.most_common(ROWS),
            longest=sorted(self._longest, reverse=True),
            failures=self._failures,
            cures={code: error.cure for code, error in VIDEO_ERRORS.items()},
            line=_line(self._points),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (f"run-{tally.run_id}.html", "latest.html"):
                new = folder / f".{name}.{os.getpid()}.tmp"
                new.write_text(page, encoding="utf-8", errors="backslashreplace")
                new.replace(folder / name)
            for old in sorted(folder.glob("run-*.html"), key=lambda path: path.stat().st_mtime)[:-REPORTS_KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"{folder}: no report of this run can be written there: {error.strerror}")


def forget_in_reports(index: Path, uri: str) -> int:
    """Delete all reports below this folder that name a video. Gives how many there were. Raises OSError."""
    named = str(escape(uri)).encode("utf-8", "backslashreplace")
    pages = [path for path in sorted((index / FOLDER).glob("*")) if path.is_file() and named in path.read_bytes()]
    for path in pages:
        path.unlink(missing_ok=True)
    return len(pages)


def _line(points: list[tuple[float, float]]) -> str:
    """Points of an SVG line in a box of 600 x 120, time to the right, finished video upwards."""
    wide, high = points[-1][0] or 1.0, max(done for _, done in points) or 1.0
    return " ".join(f"{600 * at / wide:.1f},{120 - 120 * done / high:.1f}" for at, done in points)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


_TEMPLATES = Environment(loader=PackageLoader("indexer.observe"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_TEMPLATES.filters["clock"] = _clock
