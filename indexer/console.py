"""A run as a person sees it: a moving line on a terminal, a plain line now and then elsewhere, a table at the end."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from indexer.errors import VIDEO_ERRORS, VideoSkip
from indexer.records import Failure, Outcome
from indexer.report import LINE_EVERY_SECONDS, Tally

OUTCOME_WORDS = {
    "complete": "[green]complete[/]: every video found is indexed",
    "partial": "[yellow]partial[/]: some videos could not be indexed",
    "stopped": "[yellow]stopped early[/]: the same command goes on where this one stopped",
    "failed": "[red]failed[/]",
}
FAILURES_SHOWN = 20
"""Further ones are counted; `indexer failures` lists all."""


class ConsoleReporter:
    """See `report.Reporter` for the contract."""

    def __init__(self, job_path: str, index: str, *, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._job_path = job_path
        self._index = index
        self._progress: Progress | None = None
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS
        self._failures_shown = 0

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def warn(self, text: str) -> None:
        self._console.print(Text(f"warning: {text}", style="yellow"))

    def started(self, tally: Tally) -> None:
        self._console.print(
            f"{tally.found:,} videos found: {tally.to_do:,} to index, {tally.unchanged:,} unchanged, {tally.gone:,} gone"
        )
        if tally.to_do and self._console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=30),
                TextColumn("{task.description}"),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=tally.to_do_bytes)
            self._progress.start()

    def outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self._failures_shown += 1
            if self._failures_shown <= FAILURES_SHOWN:
                self._console.print(Text(f"{outcome.code}  {printable(outcome.video.uri)}: {outcome.message}"))
            elif self._failures_shown == FAILURES_SHOWN + 1:
                self._console.print("more failures are only counted here; `indexer failures` lists them all")

    def progress(self, tally: Tally) -> None:
        speed = tally.done_seconds / tally.wall_seconds
        text = (
            f"{tally.finished:,} of {tally.to_do:,} videos, {clock(tally.done_seconds)} of video, {speed:.1f} x real time,"
            f" {tally.failed + tally.failing} failed, {_remaining(tally)}"
        )
        if self._progress is not None:
            self._progress.update(self._task, completed=tally.done_bytes, description=text)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            self._console.print(text)

    def finished(self, tally: Tally, outcome: str) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._console.print(f"\n{OUTCOME_WORDS[outcome]}")
        self._console.print(_counts(tally))
        busy = [f"{name} {seconds:.1f}" for name, seconds in tally.stages.items() if seconds >= 0.05]
        self._console.print(f"wall time {tally.wall_seconds:.1f} s; busy seconds, all workers: {', '.join(busy) or 'none'}")
        if tally.fetched_bytes:
            share = f"{tally.fetched_bytes / 1e6:,.1f} MB fetched of {tally.fetched_of_bytes / 1e6:,.1f} MB of video"
            self._console.print(f"{share}; decoders waited {tally.fetch_wait_seconds:.1f} s for blocks of large objects")
        if tally.warnings:
            words = ", ".join(f"{code} {n}" for code, n in sorted(tally.warnings.items()))
            self._console.print(f"indexed with a warning: {words}")
        self._console.print(Text(f"index: {self._index}"))
        self._console.print(Text(f"next: {self._next_command(tally)}", style="bold"))

    def failed(self, message: str, exit_code: int) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._console.print(Text(message, style="red"))

    def _next_command(self, tally: Tally) -> str:
        job = shlex.quote(self._job_path)
        if tally.left or (tally.failed and tally.run_id is None):
            return f"indexer run {job}"
        if tally.failed:
            return f"indexer failures {job}"
        label = next((label for label, _ in tally.labels.most_common(1)), None)
        return f"indexer status {job}" if label is None else f"indexer search {shlex.quote(label)} --job {job}"


def clock(seconds: float, *, milliseconds: bool = False) -> str:
    """Seconds as HH:MM:SS, or HH:MM:SS.mmm."""
    whole = round(seconds * 1000)
    hours, rest = divmod(whole, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    text = f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}"
    return f"{text}.{rest % 1000:03d}" if milliseconds else text


def printable(uri: str) -> str:
    """A file name is hostile text: show control characters as escapes, never send them to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in uri)


def shown_path(path: str) -> str:
    """A path as short as it can be typed from here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _remaining(tally: Tally) -> str:
    return "time left unknown" if tally.seconds_left is None else f"about {clock(tally.seconds_left)} left"


def _counts(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    rows = [
        (tally.found, "videos found"),
        (tally.indexed, f"indexed: {tally.segments:,} segments, {clock(tally.video_seconds)} of video"),
        (tally.unchanged, "unchanged"),
        (tally.failed, "failed"),
        (tally.skipped, "skipped"),
        (tally.left, "left for the next run"),
        (tally.gone, "gone from the source, removed from the index"),
    ]
    for number, words in rows:
        if number or words in ("videos found", "failed"):
            table.add_row(f"{number:,}", words)
        if words == "failed":
            for code, n in sorted(tally.failure_codes.items()):
                table.add_row("", f"  {n:,} {code}: {(VIDEO_ERRORS[code].__doc__ or '').splitlines()[0]}")
            if tally.failed_before:
                table.add_row("", f"  {tally.failed_before:,} failed in an earlier run; --retry-failed tries them again")
        if words == "skipped":
            for reason, n in sorted(tally.skip_reasons.items()):
                table.add_row("", f"  {n:,} {reason}: {VideoSkip.REASONS[reason]}")
    return table
