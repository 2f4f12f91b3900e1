"""One `indexer run` as a process: who hears it, what a signal means, which exit code it ends with."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TextIO

from indexer import pipeline
from indexer.config import load_job
from indexer.console import ConsoleReporter, shown_path
from indexer.errors import ConfigError, StopRun
from indexer.execute import make_executor
from indexer.observe.observed import observed
from indexer.report import JsonReporter, Reporter

EXIT_CODES = {"complete": 0, "partial": 3, "stopped": 75}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupted(BaseException):
    """A signal came before there was anything to save."""


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a polite stop, the second into an immediate one.

    Until the work first asks, no video is finished and nothing needs saving: then the first signal ends the run at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = False

    def __call__(self) -> bool:
        self._asked = True
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # a commit is all or nothing: whatever is cut off here is not half there
        self.signal = number
        if not self._asked:
            raise _Interrupted
        os.write(2, b"\nstopping: finished videos are being saved; once more to stop at once\n")


def run_job(path: Path, *, local: bool, limit: int | None, retry_failed: bool, deadline: str | None, as_json: bool) -> int:
    """`indexer run`: gives the exit code. Whatever ends the run is told here to all who hear it.

    A StopRun becomes its exit code; any other error is a bug, and is raised again for its traceback.
    """
    out = _own_stdout()
    stop = StopRequest()
    reporter: Reporter = JsonReporter(out) if as_json else ConsoleReporter(str(path), "")
    try:
        with stop.listening():
            job = load_job(path)
            options = pipeline.Options(limit=limit, retry_failed=retry_failed, deadline=parse_deadline(deadline))
            if not as_json:
                reporter = ConsoleReporter(str(path), shown_path(job.output.uri))
            reporter = observed(job, reporter)
            if job.model.weights == "random":
                reporter.warn("model.weights is random: the labels of this index mean nothing; it is for trials only")
            outcome = pipeline.run(job, lambda: make_executor(job, local=local), reporter, options, stopped=stop)
    except StopRun as error:
        reporter.failed(str(error), error.exit_code)
        return error.exit_code
    except _Interrupted:
        code = 128 + (stop.signal or 0)
        reporter.failed("interrupted before any video was begun; nothing is lost", code)
        return code
    except Exception as error:  # told to all who watch, and raised again for its traceback
        reporter.failed(f"a bug: {type(error).__name__}: {error}", 1)
        raise
    return EXIT_CODES[outcome] if stop.signal is None else 128 + stop.signal


def parse_deadline(text: str | None, now: datetime | None = None) -> float | None:
    """Unix time of `06:00` (the next one after `now`, local time) or of an ISO date and time. Raises ConfigError."""
    if text is None:
        return None
    now = (now or datetime.now()).astimezone()
    try:
        if "T" in text or " " in text:
            return datetime.fromisoformat(text).astimezone().timestamp()
        clock = datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise ConfigError(f"--deadline: {text!r} is not a time; write 06:00, or 2026-11-23T06:00") from None
    # The zone is asked for each day: between two of them clocks may change.
    days = (datetime.combine(now.date() + timedelta(days=ahead), clock).astimezone() for ahead in (0, 1))
    return next(day for day in days if day > now).timestamp()


def _own_stdout() -> TextIO:
    """The real stdout for our events alone: libraries and worker processes that write to file 1 reach stderr instead."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    return own
