"""The log of a run, beside its index: the events of `run --json`, each with its time and the number of its run.

    INDEX/logs/20261123T011503Z-4711.jsonl        the last LOGS_KEPT runs

An index in S3 has none, for an object there cannot grow: keep the output of `indexer run --json` instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from indexer.config import Job
from indexer.report import JsonReporter, Tally
from indexer.storage.address import is_s3

FOLDER = "logs"
LOGS_KEPT = 30


def open_log(job: Job, warn: Callable[[str], None]) -> RunLog | None:
    """None, and a warning, where none can be written: a run is not worth less without it."""
    if is_s3(job.output.uri):
        return None
    folder = Path(job.output.uri) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        file = (folder / f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl").open("a", encoding="utf-8", errors="backslashreplace")
        for old in sorted(folder.glob("*.jsonl"))[:-LOGS_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        warn(f"{folder}: no log of this run can be kept there: {error.strerror}")
        return None
    return RunLog(file)


def forget_in_logs(index: Path, uri: str) -> int:
    """Take all lines that name a video, or may, out of the logs below this folder. Gives how many. Raises OSError."""
    forgotten = 0
    for path in sorted((index / FOLDER).glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8", errors="backslashreplace").splitlines(keepends=True)
        kept = [line for line in lines if not _names(line, uri)]
        if len(kept) < len(lines):
            new = path.with_name(f".{path.name}.tmp")
            new.write_text("".join(kept), encoding="utf-8")
            new.replace(path)
            forgotten += len(lines) - len(kept)
    return forgotten


def _names(line: str, uri: str) -> bool:
    try:
        values = json.loads(line).values()
    except (ValueError, AttributeError):  # cut off when its run was killed, and perhaps in the middle of this name
        return True
    return any(uri in value for value in values if isinstance(value, str))


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
        self._write({"event": "run_failed", "message": message, "exit_code": exit_code})
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk
            self._out.close()

    def _write(self, event: dict[str, Any]) -> None:
        stamp = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run_id": self._run_id}
        try:
            self._out.write(json.dumps(stamp | event, ensure_ascii=False, default=str) + "\n")
            self._out.flush()
        except OSError:
            return  # the disk is full: what matters says so itself
