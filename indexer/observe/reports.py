"""The reports and logs that lie beside an index: what they are called, which ones stay, and how to read one.

INDEX/logs/20261123T011503Z-4711.jsonl     each run
INDEX/reports/run-17.html                  a run that did something
INDEX/reports/latest.html                  the newest of them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from indexer.errors import StopRun
from indexer.storage import Storage, open_storage

LOGS = "logs/"
REPORTS = "reports/"
KEPT = 30
"""So many of each stay."""


def report_name(run_id: int | None) -> str:
    return f"{REPORTS}run-{run_id}.html"


def has_report(report: Mapping[str, Any]) -> bool:
    """Whether a run left a page, from what the catalog keeps of it: it did something."""
    return bool(report.get("videos", {}).get("indexed") or report.get("failures"))


def reported(output: str) -> set[str]:
    """The names of all reports of an index. Raises OutputError, CredentialsError."""
    return {file.name for file in open_storage(output).list_files(REPORTS)}


def read_report(output: str, run_id: int) -> bytes | None:
    """The page that a run has left beside the index; None if it has not, or is one of long ago."""
    storage = open_storage(output)
    name = report_name(run_id)
    if not any(file.name == name for file in storage.list_files(name)):
        return None
    with storage.open(name) as file:
        return file.read()


def sweep(storage: Storage, prefix: str, warn: Callable[[str], None]) -> None:
    """Delete the oldest, so that KEPT stay."""
    try:
        for old in sorted(storage.list_files(prefix), key=attrgetter("modified_at", "name"))[:-KEPT]:
            storage.delete(old.name)
    except StopRun as error:
        warn(f"old files stay in {storage.uri}/{prefix.partition('/')[0]}: {error}")
