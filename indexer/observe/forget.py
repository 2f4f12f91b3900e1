"""Take a video's name out of the logs and reports that lie beside an index."""

from __future__ import annotations

import json

from markupsafe import escape

from indexer.observe.reports import LOGS, REPORTS
from indexer.storage import Storage


def forget_in_logs(storage: Storage, uri: str) -> int:
    """Take all lines that name a video, or may, out of the logs. Gives how many. Raises OutputError."""
    forgotten = 0
    for name in [file.name for file in storage.list_files(LOGS) if file.name.endswith(".jsonl")]:
        lines = _read(storage, name).decode("utf-8", "backslashreplace").splitlines(keepends=True)
        kept = [line for line in lines if not _names(line, uri)]
        if len(kept) < len(lines):
            storage.replace(name, "".join(kept).encode("utf-8"))
            forgotten += len(lines) - len(kept)
    return forgotten


def forget_in_reports(storage: Storage, uri: str) -> int:
    """Delete all reports that name a video. Gives how many there were. Raises OutputError."""
    named = str(escape(uri)).encode("utf-8", "backslashreplace")
    pages = [file.name for file in storage.list_files(REPORTS) if named in _read(storage, file.name)]
    for name in pages:
        storage.delete(name)
    return len(pages)


def _read(storage: Storage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.read()


def _names(line: str, uri: str) -> bool:
    try:
        values = json.loads(line).values()
    except (ValueError, AttributeError):  # cut off when its run was killed, and perhaps in the middle of this name
        return True
    return any(uri in value for value in values if isinstance(value, str))
