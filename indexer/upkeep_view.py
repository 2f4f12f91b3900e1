"""`indexer check`, `gc`, `forget` and `rebuild`: what they did, as lines for people or one JSON document."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.text import Text
from sqlalchemy import Engine

from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.catalog.refusals import shown
from indexer.config import Job, load_job
from indexer.console import printable
from indexer.errors import ConfigError
from indexer.quantities import duration_seconds
from indexer.report import LINE_EVERY_SECONDS
from indexer.search.shards import Shards, shards_folder
from indexer.storage import open_storage
from indexer.storage.copies import copies_folder
from indexer.upkeep.check import check
from indexer.upkeep.compact import Compacted, compact
from indexer.upkeep.findings import CURES, Finding
from indexer.upkeep.forget import find_uri, forget
from indexer.upkeep.rebuild import rebuild
from indexer.upkeep.repair import repair as repair_index
from indexer.upkeep.shards import keep_live_shards
from indexer.upkeep.sweep import sweep
from indexer.views import complain, make_table, out, print_json

FOUND_SOMETHING = 4
_NO_LEASE = 0


def show_check(path: Path, *, deep: bool, repair: bool, force: bool = False, as_json: bool) -> int:
    """`indexer check`. Gives the exit code."""
    job = load_job(path)
    engine = _open(job, path, read_only=not repair)
    storage = open_storage(job.output.uri)
    with _leased(engine, job, changes=repair) as lease_token:
        findings = list(check(engine, storage, deep=deep, progress=_now_and_then("part")))
        repaired = repair_index(engine, lease_token, findings, force=force) if repair else []
    faults = [finding for finding in findings if finding.is_fault]
    if as_json:
        documents = [finding.as_document() for finding in findings]
        print_json({"sound": not faults, "deep": deep, "findings": documents, "requeued": repaired})
        return FOUND_SOMETHING if faults else 0
    _print_findings(findings)
    if repaired:
        complain(f"videos to be indexed again: {len(repaired):,}. Next: indexer run {path}")
    elif repair and faults:
        complain("The counts and states are right again; no video has to be indexed again.")
    complain(f"findings: {len(faults):,}" if faults else "sound" + ("" if deep else "; --deep reads every part, too"))
    return FOUND_SOMETHING if faults else 0


def show_gc(path: Path, *, grace: str, compacting: bool, dry_run: bool, force: bool, as_json: bool) -> int:
    """`indexer gc`. Gives the exit code."""
    try:
        grace_seconds = duration_seconds(grace, least="0s", most="3650d")
    except ValueError as error:
        raise ConfigError(f"--grace: {error}") from None
    job = load_job(path)
    engine = _open(job, path, read_only=dry_run)
    storage = open_storage(job.output.uri)
    with _leased(engine, job, changes=not dry_run) as lease_token:
        swept = sweep(engine, lease_token, storage, grace_seconds=grace_seconds, dry_run=dry_run, force=force)
        compacted = Compacted(0, 0, 0)
        if compacting:
            compacted = compact(engine, lease_token, storage, dry_run=dry_run, progress=_now_and_then("compaction"))
        if not dry_run:
            keep_live_shards(engine, Shards(storage, shards_folder(job.output.uri)))
    if as_json:
        print_json({"dry_run": dry_run, "deleted": [asdict(one) for one in swept], "compacted": asdict(compacted)})
        return FOUND_SOMETHING if compacted.unreadable else 0
    for kind in sorted({one.kind for one in swept}):
        sizes = [one.size_bytes for one in swept if one.kind == kind]
        out().print(f"{kind}: {len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB")
    if compacted.parts:
        out().print(f"compacted: {compacted.parts:,} parts into {compacted.into:,}, {compacted.rows:,} rows")
    for sentence in compacted.unreadable:
        complain(printable(sentence))
    complain("nothing was changed: --dry-run" if dry_run else "done" if swept or compacted.parts else "nothing to do")
    return FOUND_SOMETHING if compacted.unreadable else 0


def show_rebuild(path: Path, *, force: bool, as_json: bool) -> int:
    """`indexer rebuild`. Gives the exit code."""
    job = load_job(path)
    rebuilt = rebuild(job, open_storage(job.output.uri), force=force, progress=_now_and_then("part"))
    if as_json:
        findings = [finding.as_document() for finding in rebuilt.findings]
        print_json(asdict(rebuilt) | {"findings": findings})
    else:
        _print_findings(rebuilt.findings)
        out().print(f"{rebuilt.videos:,} results, {rebuilt.segments:,} segments in {rebuilt.parts:,} parts")
        if rebuilt.retired:
            out().print(f"{rebuilt.retired:,} older parts, which gc deletes in a day")
        complain(f"Failures and skips are found again by the next run: indexer run {path}")
    return FOUND_SOMETHING if rebuilt.findings else 0


def show_forget(name: str, path: Path, *, as_json: bool) -> None:
    """`indexer forget`."""
    job = load_job(path)
    engine = _open(job, path, read_only=False)
    storage = open_storage(job.output.uri)
    uri = find_uri(engine, name)
    with acquire(engine, job.name) as lease:
        shards = Shards(storage, shards_folder(job.output.uri))
        forgotten = forget(engine, lease.token, storage, shards, copies_folder(), uri, progress=_now_and_then("part"))
    if as_json:
        print_json(asdict(forgotten))
        return
    counts = (
        f"parts written anew without it: {forgotten.rewritten:,}; files deleted: {forgotten.deleted + forgotten.reports:,}"
    )
    if forgotten.log_lines:
        counts += f"; lines taken out of logs: {forgotten.log_lines:,}"
    complain(f"{printable(uri)} is forgotten. {counts}")
    complain("If the file is still in the source, the next run finds it again: delete it there, or name it in source.exclude.")


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


@contextmanager
def _leased(engine: Engine, job: Job, *, changes: bool) -> Iterator[int]:
    """The token of a lease of the job, which is needed only by what `changes` the index. Raises RunHeld."""
    if not changes:
        yield _NO_LEASE
        return
    with acquire(engine, job.name) as lease:
        yield lease.token


def _now_and_then(what: str) -> Callable[[int, int], None]:
    """Says how far a long work is, where somebody may wait for it."""
    said = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_EVERY_SECONDS:
            said = time.monotonic()
            print(f"{what} {done:,} of {of:,} ...", file=sys.stderr, flush=True)  # noqa: T201

    return progress
