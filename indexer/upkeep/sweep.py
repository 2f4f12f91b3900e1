"""`indexer gc`: files that are of no use any more are deleted, once nobody can be reading or about to commit them.

retired      a part that no result names any more: its rows were replaced, withdrawn, or moved
orphan       a part that the catalog does not know: its run was killed before the commit
temporary    what a killed program left of a file that it was writing
staged       finished ranges of a long video that no run will go on with
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.lease import end_free_leases, fenced, others_at_work
from indexer.catalog.lookup import awaited_videos
from indexer.catalog.parts import drop_parts, list_parts, live_rows
from indexer.errors import ConfigError, RunHeld
from indexer.storage import Storage, StoredFile
from indexer.write import staging
from indexer.write.footer import Footer
from indexer.write.parquet import FOLDER, is_part_name
from indexer.write.read import UNREADABLE, read_footer

SHORTEST_GRACE_SECONDS = 3600.0
"""With less, files of other jobs that are at work could be taken for leftovers."""
_STRANGE_PARTS = 3
_TEMPORARY = re.compile(rf"({FOLDER}|{staging.FOLDER})\.[^/]+\.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that is being written, or was."""
    return _TEMPORARY.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Swept:
    """A file that was, or would be, deleted."""

    kind: str
    """retired, orphan, temporary or staged"""
    name: str
    size_bytes: int


def sweep(
    engine: Engine, lease_token: int, storage: Storage, *, grace_seconds: float, dry_run: bool, force: bool
) -> list[Swept]:
    """Delete what is older than the grace. `force` also deletes parts that look like those of another catalog.

    Raises ConfigError if most of the parts look so, and RunHeld if the grace is short and another job is at work.
    """
    files = [*storage.list_files(FOLDER), *storage.list_files(staging.FOLDER)]  # before the catalog: see `check`
    if not dry_run:  # who was frozen, and wakes up later than the catalog was read, must not commit what is deleted
        fenced(engine, lease_token, lambda connection: end_free_leases(connection, lease_token))
    with reading(engine) as connection:
        parts, alive = list_parts(connection), live_rows(connection)
        if grace_seconds < SHORTEST_GRACE_SECONDS and others_at_work(connection, lease_token):
            raise RunHeld("Another job is at work on this index: what it is writing could be deleted. Give a grace of 1h.")
    now = time.time()
    oldest = (now if dry_run or not files else _clock(storage)) - grace_seconds
    retired = [part for part in parts if part.state == "retired" and (part.retired_at or 0.0) <= now - grace_seconds]
    retired = [part for part in retired if not alive[part.part_id]]  # `check` finds such a state; rows come first
    known = {part.name: part for part in parts}
    aged = [file for file in files if file.modified_at <= oldest]
    orphans = [file for file in aged if is_part_name(file.name) and file.name not in known]
    if len(orphans) > max(_STRANGE_PARTS, len(known)) and not force:
        raise ConfigError(
            f"{storage.uri} holds {len(orphans):,} parts that the catalog does not know, and {len(known):,} that it does. Is"
            " output.catalog the right one? If it was lost, `indexer rebuild JOB` adopts them; --force deletes them."
        )
    found = [
        *(Swept("retired", part.name, part.size_bytes) for part in retired),
        *_swept("orphan", orphans),
        *_swept("temporary", [file for file in aged if is_temporary(file.name)]),
        *_swept("staged", _useless(engine, storage, aged)),
    ]
    if not dry_run:
        for one in found:
            storage.delete(one.name)
        drop_parts(engine, lease_token, [part.part_id for part in retired])
    return found


def _clock(storage: Storage) -> float:
    """Unix seconds by the clock that gives files their times: this host's may be ahead."""
    name = f"{FOLDER}.clock-{uuid.uuid4().hex[:12]}.tmp"
    with storage.create(name) as file:
        file.write(b"to learn what time it is; may be deleted\n")
    times = [file.modified_at for file in storage.list_files(name)]
    storage.delete(name)
    return min(times, default=0.0)


def _useless(engine: Engine, storage: Storage, files: Iterable[StoredFile]) -> list[StoredFile]:
    """Staged ranges, except those of videos that are still to be indexed, with these bytes and this recipe."""
    staged = [file for file in files if staging.is_staged_name(file.name)]
    footers: dict[str, Footer | None] = {file.name: _footer(storage, file.name) for file in staged}
    uris = {video.uri for footer in footers.values() if footer for video in footer.videos}
    awaited = awaited_videos(engine, sorted(uris))

    def is_awaited(footer: Footer | None) -> bool:
        return footer is not None and all(
            (video.uri, footer.recipe.digest, video.fingerprint) in awaited for video in footer.videos
        )

    return [file for file in staged if not is_awaited(footers[file.name])]


def _footer(storage: Storage, name: str) -> Footer | None:
    try:
        with storage.open(name) as file:
            return read_footer(file)
    except UNREADABLE:
        return None


def _swept(kind: str, files: Sequence[StoredFile]) -> list[Swept]:
    return [Swept(kind, file.name, file.size_bytes) for file in files]
