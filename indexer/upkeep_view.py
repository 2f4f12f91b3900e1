"""`indexer check`, `gc`, `forget` and `rebuild`: what they did, as lines for people or one JSON document."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.text import Text
from sqlalchemy import Engine

from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.catalog.refusals import shown
from indexer.config import Job, load_job
from indexer.console import printable
from indexer.errors import ConfigError
from indexer.report import LINE_EVERY_SECONDS
from indexer.storage import open_storage
from indexer.upkeep.check import check
from indexer.upkeep.findings import CURES, Finding
from indexer.upkeep.repair import repair as repair_index
from indexer.views import complain, make_table, out, print_json

FOUND_SOMETHING = 4


def show_check(path: Path, *, deep: bool, repair: bool, as_json: bool) -> int:
    """`indexer check`. Gives the exit code."""
    job = load_job(path)
    engine = _open(job, path, read_only=not repair)
    storage = open_storage(job.output.uri)
    repaired: list[str] = []
    if repair:
        with acquire(engine, job.name) as lease:
            findings = list(check(engine, storage, deep=deep, progress=_now_and_then("part")))
            repaired = repair_index(engine, lease.token, findings)
    else:
        findings = list(check(engine, storage, deep=deep, progress=_now_and_then("part")))
    faults = [finding for finding in findings if finding.is_fault]
    if as_json:
        documents = [finding.as_document() for finding in findings]
        print_json({"sound": not faults, "deep": deep, "findings": documents, "requeued": repaired})
        return FOUND_SOMETHING if faults else 0
    _print_findings(findings)
    if repaired:
        complain(f"{len(repaired):,} videos are to be indexed again. Next: indexer run {path}")
    elif repair and faults:
        complain("The counts and states are right again; no video has to be indexed again.")
    complain(f"{len(faults):,} things are wrong" if faults else "sound" + ("" if deep else "; --deep reads every part, too"))
    return FOUND_SOMETHING if faults else 0


def _print_findings(findings: list[Finding]) -> None:
    table = make_table("code", "about", "what")
    for finding in findings:
        table.add_row(finding.code, Text(printable(finding.subject)), Text(printable(finding.message)))
    if findings:
        out().print(table)
    for code in dict.fromkeys(finding.code for finding in findings):
        complain(f"{code}: {CURES[code]}")


def _open(job: Job, path: Path, *, read_only: bool) -> Engine:
    engine = open_catalog(job.output.catalog, create=False, read_only=read_only)
    if engine is None:
        raise ConfigError(
            f"{shown(job.output.catalog)} does not exist. If it was lost, `indexer rebuild {path}` makes it from the parts;"
            f" if nothing was ever indexed, first: indexer run {path}"
        )
    return engine


def _now_and_then(what: str) -> Callable[[int, int], None]:
    """Says how far a long work is, where somebody may wait for it."""
    said = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_EVERY_SECONDS:
            said = time.monotonic()
            print(f"{what} {done:,} of {of:,} ...", file=sys.stderr, flush=True)  # noqa: T201

    return progress
