"""The report of a run: one HTML page beside its index, which needs nothing else to be looked at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from indexer.config import Job
from indexer.console import clock
from indexer.errors import VIDEO_ERRORS, StopRun
from indexer.observe.listeners import Silent
from indexer.observe.pace import HIGH, WIDE, Pace
from indexer.observe.reports import REPORTS, report_name, sweep
from indexer.records import Failure, IndexedVideo, Outcome
from indexer.report import Tally
from indexer.storage import open_storage

ROWS = 10
"""Of each table of labels and of videos."""
FAILURES = 200


class RunPage(Silent):
    """Writes the page when the run ends."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        self._job = job
        self._warn = warn
        self._tally: Tally | None = None
        self._labels: Counter[str] = Counter()
        self._slowest: list[tuple[float, float, str]] = []
        self._failures: list[Failure] = []
        self._pace = Pace()
        self._did_something = False

    def started(self, tally: Tally) -> None:
        self._tally = tally

    def outcome(self, outcome: Outcome) -> None:
        self._did_something = True
        if isinstance(outcome, IndexedVideo):
            self._labels.update(segment.labels[0] for segment in outcome.segments if segment.labels)
            heapq.heappush(self._slowest, (outcome.decode_seconds, outcome.info.duration_seconds, outcome.video.uri))
            if len(self._slowest) > ROWS:
                heapq.heappop(self._slowest)
        elif isinstance(outcome, Failure) and len(self._failures) < FAILURES:
            self._failures.append(outcome)

    def progress(self, tally: Tally) -> None:
        self._pace.note(tally.wall_seconds, tally.done_seconds)

    def finished(self, tally: Tally, outcome: str) -> None:
        self._write(tally, outcome, "")

    def failed(self, message: str, exit_code: int) -> None:
        if self._tally is not None:
            self._write(self._tally, "failed", message)

    def _write(self, tally: Tally, outcome: str, message: str) -> None:
        if not self._did_something:
            return
        self._pace.note(tally.wall_seconds, tally.done_seconds, last=True)
        now = datetime.now(UTC)
        page = _TEMPLATES.get_template("run.html").render(
            job=self._job,
            event=tally.as_event(outcome),
            message=message,
            ended=f"{now:%Y-%m-%d %H:%M} UTC",
            labels=self._labels.most_common(ROWS),
            slowest=sorted(self._slowest, reverse=True),
            failures=self._failures,
            cures={code: error.cure for code, error in VIDEO_ERRORS.items()},
            chart=self._pace.drawn(now),
            wide=WIDE,
            high=HIGH,
        )
        try:
            storage = open_storage(self._job.output.uri)
            for name in (report_name(tally.run_id), f"{REPORTS}latest.html"):
                storage.replace(name, page.encode(errors="backslashreplace"))
            sweep(storage, f"{REPORTS}run-", self._warn)
        except StopRun as error:
            self._warn(f"no report of this run can be kept: {error}")


_TEMPLATES = Environment(loader=PackageLoader("indexer.observe"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_TEMPLATES.filters["clock"] = clock
