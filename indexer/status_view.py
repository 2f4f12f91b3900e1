"""`indexer status`: what is indexed, the last runs, and whether the last good one is recent enough."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from indexer.catalog import lookup
from indexer.config import Job, load_job
from indexer.console import clock
from indexer.errors import ConfigError
from indexer.index import current_recipe, open_index
from indexer.observe.reports import has_report, report_name
from indexer.observe.webhooks import Webhooks
from indexer.quantities import duration_seconds
from indexer.report import LINE_EVERY_SECONDS
from indexer.views import complain, make_table, out, print_json

RUNS_SHOWN = 10
REDRAW_SECONDS = 2.0
STALE = 4
"""The exit code of `--max-age`."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the catalog says at one moment."""

    sums: lookup.Totals | None
    """None: nothing is indexed with these settings."""
    past: list[lookup.RunRow]
    """The last runs of the catalog, newest first."""
    last_success: float | None
    """Unix time in seconds at which a run of this job last ended complete or partial."""

    def document(self) -> dict[str, Any]:
        return {
            "index": None if self.sums is None else asdict(self.sums),
            "runs": [asdict(row) for row in self.past],
            "last_success": self.last_success,
        }

    def drawn(self, path: Path) -> Group:
        tables: list[Table | Text] = []
        if self.sums is None:
            tables.append(Text(f"Nothing is indexed with the settings of {path} yet. Next: indexer run {path}"))
        else:
            table = make_table("", "")
            for state, number in self.sums.videos.items():
                if number or state == "indexed":
                    table.add_row(f"videos {state}", f"{number:,}")
            table.add_row("video", clock(self.sums.video_seconds))
            table.add_row("segments", f"{self.sums.segments:,}")
            table.add_row("parts", f"{self.sums.parts:,} ({self.sums.part_bytes / 1e6:,.1f} MB)")
            tables.append(table)
        if self.past:
            tables.append(_runs_table(self.past))
        return Group(*tables)

    def line(self) -> str:
        """All of it in one line."""
        if self.sums is None:
            return "nothing is indexed yet"
        states = ", ".join(f"{number:,} {state}" for state, number in self.sums.videos.items() if number or state == "indexed")
        newest = next(iter(self.past), None)
        run = "no run yet" if newest is None else f"run {newest.run_id}: {_outcome(newest)}"
        return f"{states}; {clock(self.sums.video_seconds)} of video, {self.sums.segments:,} segments; {run}"


def show_status(path: Path, *, watch: bool, max_age: str | None, as_json: bool) -> int:
    """Gives the exit code: 0, or STALE if `max_age`, such as 36h, is over since the last good run.

    Then the job's webhooks are told, too, if they want to know: each time, for nothing here remembers the last one.
    """
    if watch and max_age is not None:
        raise ConfigError("--watch and --max-age do not go together: one looks on, the other ends with an answer")
    oldest = None if max_age is None else _age(max_age)
    job = load_job(path)
    if watch:
        _watch(job, path, as_json=as_json)
        return 0
    status = next(_looks(job))
    stale = oldest is not None and (status.last_success is None or time.time() - status.last_success > oldest)
    if as_json:
        print_json(status.document() | ({} if oldest is None else {"max_age_seconds": oldest, "stale": stale}))
    else:
        out().print(status.drawn(path))
        worked = next((row for row in status.past if row.job == job.name and has_report(row.report)), None)
        if worked is not None:
            out().print(Text(f"report of run {worked.run_id}: {job.output.uri}/{report_name(worked.run_id)}"))
    if oldest is None or not stale:
        return 0
    sentence = f"stale: no run of {job.name} has ended well yet; run it: indexer run {path}"
    if status.last_success is not None:
        age, when = time.time() - status.last_success, datetime.fromtimestamp(status.last_success).astimezone()
        sentence = (
            f"stale: the last run of {job.name} that ended well was {_hours(age)} ago ({when:%Y-%m-%d %H:%M}), more than"
            f" {max_age}; see why it does not run, or run it: indexer run {path}"
        )
    complain(sentence)
    if job.monitor.notify:
        Webhooks(job, complain).stale(sentence, last_success=status.last_success, max_age_seconds=oldest)
    return STALE


def _watch(job: Job, path: Path, *, as_json: bool) -> None:
    """Until Ctrl-C: drawn again and again on a terminal, a line now and then elsewhere."""
    with suppress(KeyboardInterrupt):
        if as_json or not sys.stdout.isatty():
            _write_lines(job, as_json=as_json)
        else:
            _redraw(job, path)


def _write_lines(job: Job, *, as_json: bool) -> None:
    for status in _looks(job):
        line = f"{datetime.now():%Y-%m-%d %H:%M:%S}  {status.line()}"
        print(json.dumps(status.document(), ensure_ascii=False, default=str) if as_json else line, flush=True)  # noqa: T201
        time.sleep(LINE_EVERY_SECONDS)


def _redraw(job: Job, path: Path) -> None:
    with Live(console=out(), auto_refresh=False) as live:
        for status in _looks(job):
            shown = Text(f"{datetime.now():%H:%M:%S}, every {REDRAW_SECONDS:g} s; Ctrl-C ends this", style="dim")
            live.update(Group(status.drawn(path), shown), refresh=True)
            time.sleep(REDRAW_SECONDS)


def _looks(job: Job) -> Iterator[Status]:
    """The status of now, each time it is asked for. The catalog may not be there at first."""
    engine: Engine | None = None
    digest: str | None = None
    try:
        while True:
            engine = engine or open_index(job)
            if engine is None:
                yield Status(None, [], None)
                continue
            digest = digest or current_recipe(job, engine)
            recipe_id = lookup.find_recipe(engine, digest or "")
            sums = None if recipe_id is None else lookup.totals(engine, recipe_id)
            yield Status(sums, lookup.runs(engine, RUNS_SHOWN), lookup.last_success(engine, job.name))
    finally:
        if engine is not None:
            engine.dispose()


def _age(text: str) -> float:
    try:
        return duration_seconds(text, least="1s", most="3650d")
    except ValueError as error:
        raise ConfigError(f"--max-age: {error}") from None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} days"


def _outcome(row: lookup.RunRow) -> str:
    return row.outcome or ("at work" if row.running else "killed")


def _rate(report: Mapping[str, Any]) -> str:
    """Seconds of video that a second of the run has indexed."""
    video, wall = report.get("video_seconds", 0.0), report.get("wall_seconds", 0.0)
    return f"{video / wall:.1f}" if video and wall else ""


def _runs_table(past: list[lookup.RunRow]) -> Table:
    table = make_table("run", "began", "took", "outcome", "indexed", "unchanged", "failed", "video", "x real time")
    for row in past:
        videos: dict[str, Any] = row.report.get("videos", {})
        took = "" if row.finished_at is None else clock(row.finished_at - row.started_at)
        table.add_row(
            str(row.run_id),
            datetime.fromtimestamp(row.started_at).astimezone().strftime("%Y-%m-%d %H:%M"),
            took,
            _outcome(row),
            *(str(videos.get(name, "")) for name in ("indexed", "unchanged", "failed")),
            clock(row.report.get("video_seconds", 0.0)),
            _rate(row.report),
        )
    return table
