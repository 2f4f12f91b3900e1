"""The log of a run, beside its index: the events of `run --json`, each with its time and the number of its run.

In a folder it grows with the run. An object in S3 cannot grow: there the log is gathered on this machine, and put beside the
index when the run ends.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from indexer.config import Job
from indexer.errors import StopRun
from indexer.observe.reports import LOGS, sweep
from indexer.report import JsonReporter, Tally
from indexer.storage import open_storage
from indexer.storage.address import is_s3


def open_log(job: Job, warn: Callable[[str], None]) -> RunLog | None:
    """None, and a warning, where none can be written: a run is not worth less without it."""
    output = job.output.uri
    name = f"{LOGS}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"
    try:
        if is_s3(output):
            return RunLogInS3(output, name, warn)
        path = Path(output) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        log = RunLog(path.open("a", encoding="utf-8", errors="backslashreplace"))
        sweep(open_storage(output), LOGS, warn)
    except OSError as error:
        warn(f"{output}/{LOGS.rstrip('/')}: no log of this run can be kept there: {error.strerror}")
        return None
    return log


class RunLog(JsonReporter):
    """A JsonReporter whose lines stand by themselves."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._run_id: int | None = None

    def note(self, text: str) -> None:
        self._write({"event": "note", "message": text})

    def started(self, tally: Tally) -> None:
        self._run_id = tally.run_id
        super().started(tally)

    def finished(self, tally: Tally, outcome: str) -> None:
        super().finished(tally, outcome)
        self.close()

    def failed(self, message: str, exit_code: int) -> None:
        self._write(self._tally.as_event("failed") | {"message": message, "exit_code": exit_code})
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk
            self._out.close()

    def _write(self, event: dict[str, Any]) -> None:
        if self._out.closed:
            return
        stamp = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run_id": self._run_id}
        try:
            self._out.write(json.dumps(stamp | event, ensure_ascii=False, default=str) + "\n")
            self._out.flush()
        except OSError:
            return  # the disk is full: what matters says so itself


class RunLogInS3(RunLog):
    """Puts itself beside the index when it is closed."""

    def __init__(self, output: str, name: str, warn: Callable[[str], None]) -> None:
        super().__init__(tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115  see close
        self._output = output
        self._name = name
        self._warn = warn

    def close(self) -> None:
        try:
            storage = open_storage(self._output)
            with storage.create(self._name) as kept:
                self._out.seek(0)
                shutil.copyfileobj(self._out.buffer, kept)
            sweep(storage, LOGS, self._warn)
        except (OSError, StopRun) as error:
            self._warn(f"no log of this run can be kept: {error}")
        super().close()
