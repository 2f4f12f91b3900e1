"""The parts that the catalog knows: added with the first result that names one, retired with the last, replaced by others that
hold the same rows, and dropped when their files are gone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, bindparam, delete, exists, func, select, text, update

from indexer.catalog.lease import fenced
from indexer.catalog.results import lock_results
from indexer.catalog.tables import part as part_table
from indexer.catalog.tables import result, video
from indexer.records import Part

_ADD_PART = text(
    "INSERT INTO part (name, run_id, recipe_id, rows, bytes, sha256, state, created_at)"
    " VALUES (:name, :run_id, :recipe_id, :rows, :bytes, :sha256, 'live', :now) ON CONFLICT (name) DO NOTHING RETURNING id"
)
_PARTS_PER_QUERY = 500


class PartRow(NamedTuple):
    """A part, as the catalog knows it."""

    part_id: int
    name: str
    run_id: int
    recipe_id: int
    rows: int
    size_bytes: int
    sha256: str
    state: str
    """live or retired"""
    retired_at: float | None
    """Unix time in seconds."""


class LiveVideo(NamedTuple):
    """A video whose rows in one part are live."""

    video_id: int
    uri: str
    fingerprint: str
    """Of the bytes that the rows speak about."""
    segments: int
    clips: int


def list_parts(connection: Connection) -> list[PartRow]:
    """All parts, in the order they came."""
    columns = part_table.c
    statement = select(
        columns.id, columns.name, columns.run_id, columns.recipe_id, columns.rows, columns.bytes, columns.sha256,
        columns.state, columns.retired_at,
    )  # fmt: skip
    return [PartRow(*row) for row in connection.execute(statement.order_by(columns.id))]


def live_videos(connection: Connection, part_id: int) -> list[LiveVideo]:
    """The videos whose results name this part, by uri."""
    statement = (
        select(video.c.id, video.c.uri, result.c.indexed_fingerprint, result.c.segments, result.c.clips)
        .join_from(result, video)
        .where(result.c.part_id == part_id)
        .order_by(video.c.uri)
    )
    return [LiveVideo(*row) for row in connection.execute(statement)]


def live_rows(connection: Connection) -> Counter[int]:
    """Part id -> rows of it that are live."""
    rows = func.sum(result.c.segments)
    statement = select(result.c.part_id, rows).where(result.c.part_id.is_not(None)).group_by(result.c.part_id)
    return Counter({part_id: int(number) for part_id, number in connection.execute(statement)})


def add_part(connection: Connection, part: Part, *, run_id: int, recipe_id: int, now: float) -> int | None:
    """The id of the new row; None if this part is there already."""
    values = {
        "name": part.name,
        "run_id": run_id,
        "recipe_id": recipe_id,
        "rows": part.rows,
        "bytes": part.size_bytes,
        "sha256": part.sha256,
        "now": now,
    }
    part_id: int | None = connection.execute(_ADD_PART, values).scalar()
    if part_id is None:
        there = select(part_table.c.run_id, part_table.c.sha256).where(part_table.c.name == part.name)
        if tuple(connection.execute(there).one()) != (run_id, part.sha256):
            raise ValueError(f"{part.name} is the name of another part")
    return part_id


def retire_unnamed(connection: Connection, part_ids: Collection[int], now: float) -> None:
    """Retire those of the parts that no result names any more."""
    ids = sorted(part_ids)
    # Another writer may be taking the other rows of a part: whoever is second looks after the first is done.
    connection.execute(
        select(part_table.c.id).where(part_table.c.id.in_(ids)).order_by(part_table.c.id).with_for_update()
    ).all()
    named = exists().where(result.c.part_id == part_table.c.id)
    connection.execute(update(part_table).where(part_table.c.id.in_(ids), ~named).values(state="retired", retired_at=now))


def replace_parts(engine: Engine, lease_token: int, new: Part, old: Mapping[PartRow, Sequence[str]]) -> None:
    """Let results name the part `new`, which is durable already, where they name one of `old`, given with the uris to move.

    All of `old` are of one recipe. What another run has committed meanwhile stays as it is.
    """
    now = time.time()
    recipe_id = next(iter(old)).recipe_id
    run_id = max(part.run_id for part in old)
    old_id = {uri: part.part_id for part, uris in old.items() for uri in uris}

    def work(connection: Connection) -> None:
        known = lock_results(connection, sorted(old_id))
        new_id = add_part(connection, new, run_id=run_id, recipe_id=recipe_id, now=now)
        if new_id is None:
            return  # it is committed: only the answer was lost
        moved = [row for row in known if row.recipe_id == recipe_id and row.part_id == old_id[row.uri]]
        if moved:
            connection.execute(
                update(result)
                .where(result.c.video_id == bindparam("of_video"), result.c.recipe_id == recipe_id)
                .values(part_id=new_id),
                [{"of_video": row.video_id} for row in moved],
            )
        retire_unnamed(connection, {new_id, *(part.part_id for part in old)}, now)

    fenced(engine, lease_token, work)


def drop_parts(engine: Engine, lease_token: int, part_ids: Iterable[int]) -> None:
    """Forget retired parts, whose files are gone."""
    ids = sorted(part_ids)

    def work(connection: Connection) -> None:
        named = exists().where(result.c.part_id == part_table.c.id)
        for first in range(0, len(ids), _PARTS_PER_QUERY):
            some = part_table.c.id.in_(ids[first : first + _PARTS_PER_QUERY])
            connection.execute(delete(part_table).where(some, part_table.c.state == "retired", ~named))

    if ids:
        fenced(engine, lease_token, work)
