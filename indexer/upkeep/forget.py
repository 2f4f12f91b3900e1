"""`indexer forget`: one video leaves the catalog, all parts and all caches of this machine, and leaves nothing behind.

    out of sight -> each part that has rows of it: written anew without, or deleted -> staged ranges -> shards and small copies
    -> lines of logs, and reports -> its name

Its name goes last: whoever is killed on the way runs the same command again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import fuzz, process
from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.forget import erase, hide, is_known, known_uris
from indexer.catalog.parts import PartRow, drop_parts, list_parts, live_videos, replace_parts
from indexer.console import printable
from indexer.errors import ConfigError, OutputError
from indexer.observe.forget import forget_in_logs, forget_in_reports
from indexer.search.shards import Shards
from indexer.storage import Storage
from indexer.storage.copies import delete_copies
from indexer.upkeep.shards import keep_live_shards
from indexer.upkeep.sweep import is_temporary
from indexer.write import staging
from indexer.write.parquet import FOLDER, is_part_name
from indexer.write.read import UNREADABLE, read_footer
from indexer.write.rewrite import Copied, rewrite

_OFFERED = 3
_NEAR = 70
"""Of 100: how like a uri is, to be offered."""


@dataclass(slots=True)
class Forgotten:
    """What was done."""

    uri: str
    rewritten: int = 0
    """Parts that hold rows of other videos, too."""
    deleted: int = 0
    """Other files with rows of it, or that might have some."""
    log_lines: int = 0
    reports: int = 0
    """Of runs, that named it."""


def find_uri(engine: Engine, name: str) -> str:
    """The uri that is `name`, or the absolute path that it means here. Raises ConfigError, which offers what is near."""
    with reading(engine) as connection:
        for uri in (name, os.path.abspath(name)):  # noqa: PTH100  as uris are: with the links that they were reached by
            if is_known(connection, uri):
                return uri
        near = process.extract(name, known_uris(connection), scorer=fuzz.partial_ratio, limit=_OFFERED, score_cutoff=_NEAR)
    offered = f" Did you mean {', '.join(printable(uri) for uri, _, _ in near)}?" if near else ""
    raise ConfigError(
        f"{printable(name)} is not known to this index: write the path or address as `indexer search` shows it.{offered}"
    )


def forget(
    engine: Engine,
    lease_token: int,
    storage: Storage,
    shards: Shards,
    copies: Path,
    uri: str,
    *,
    progress: Callable[[int, int], None],
) -> Forgotten:
    """Do all of it; `copies` is the folder of small copies.

    Raises RunHeld if another job is at work, and OutputError if something cannot be read or deleted.
    """
    forgotten = Forgotten(uri)
    hide(engine, lease_token, uri)
    files = list(_files(storage))  # before the catalog: what is committed meanwhile is known to it
    with reading(engine) as connection:
        known = {part.name: part for part in list_parts(connection)}
    unreadable = []
    for number, name in enumerate(files):
        progress(number, len(files))
        holds = _holds(storage, name, uri)
        if holds is None and is_part_name(name):
            unreadable.append(name)
        elif holds is not False:  # nobody needs a staged or temporary file that cannot be read
            _remove(engine, lease_token, storage, name, known.get(name), forgotten)
    if unreadable:
        raise OutputError(
            f"{storage.uri}/{unreadable[0]} cannot be read, so nobody can say whether it has rows of {uri}; {len(unreadable)}"
            " such parts. `indexer check JOB --repair` and `indexer gc JOB --grace 0s` remove them; then run this again."
        )
    keep_live_shards(engine, shards)
    delete_copies(copies, uri)
    forgotten.log_lines = forget_in_logs(storage, uri)
    forgotten.reports = forget_in_reports(storage, uri)
    erase(engine, lease_token, uri)
    return forgotten


def _files(storage: Storage) -> Iterator[str]:
    for folder in (FOLDER, staging.FOLDER):
        for file in storage.list_files(folder):
            if is_part_name(file.name) or staging.is_staged_name(file.name) or is_temporary(file.name):
                yield file.name


def _holds(storage: Storage, name: str, uri: str) -> bool | None:
    """Whether a file has rows of the video; None if it cannot be read."""
    try:
        with storage.open(name) as file:
            return any(video.uri == uri for video in read_footer(file).videos)
    except UNREADABLE:
        return None


def _remove(engine: Engine, lease_token: int, storage: Storage, name: str, part: PartRow | None, forgotten: Forgotten) -> None:
    """Delete a file. Rows of other videos that are live in it are written to a new part first."""
    others = []
    if part is not None:
        with reading(engine) as connection:
            others = [video.uri for video in live_videos(connection, part.part_id)]
    if part is not None and others:
        replace_parts(engine, lease_token, rewrite(storage, [Copied(name, part.sha256, others)]), {part: others})
    storage.delete(name)
    if part is not None:
        drop_parts(engine, lease_token, [part.part_id])
    forgotten.rewritten += bool(others)
    forgotten.deleted += not others
