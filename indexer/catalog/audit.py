"""What the catalog says of itself, for comparing: with the parts, and one table with another. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, exists, or_, select

from indexer.catalog.tables import hit, label, label_stat, part, recipe, result, video

_HITS_AT_ONCE = 100_000

Counts = dict[tuple[int, int, int], int]
"""(recipe id, label id, bucket) -> number of hits."""


class OneResult(NamedTuple):
    """The result of one video under one recipe."""

    uri: str
    recipe_id: int


def hits(connection: Connection) -> Iterator[NDArray[np.int64]]:
    """All rows of `hit`, some at a time, as [n, 6]: recipe, label, video, start_ms, end_ms, score."""
    columns = hit.c
    statement = select(columns.recipe_id, columns.label_id, columns.video_id, columns.start_ms, columns.end_ms, columns.score)
    rows = connection.execute(statement, execution_options={"yield_per": _HITS_AT_ONCE})
    for some in rows.partitions():
        yield np.array([tuple(row) for row in some], np.int64)


def live_keys(connection: Connection) -> NDArray[np.int64]:
    """[n, 2], recipe and video of every result with live rows, in no order."""
    statement = select(result.c.recipe_id, result.c.video_id).where(result.c.part_id.is_not(None))
    rows = connection.execute(statement, execution_options={"yield_per": _HITS_AT_ONCE})
    found = [np.array([tuple(row) for row in some], np.int64) for some in rows.partitions()]
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def kept_counts(connection: Connection) -> Counts:
    """The summary that is kept beside the hits."""
    columns = label_stat.c
    rows = connection.execute(select(columns.recipe_id, columns.label_id, columns.bucket, columns.n))
    return {(row.recipe_id, row.label_id, row.bucket): row.n for row in rows}


def label_ids(connection: Connection) -> dict[int, dict[str, int]]:
    """Recipe id -> its labels, by name."""
    known: dict[int, dict[str, int]] = {}
    statement = select(recipe.c.id, label.c.name, label.c.id).join(recipe, recipe.c.label_set == label.c.label_set)
    for recipe_id, name, label_id in connection.execute(statement):
        known.setdefault(recipe_id, {})[name] = label_id
    return known


def uris(connection: Connection, video_ids: list[int]) -> dict[int, str]:
    """Those that are known."""
    found: dict[int, str] = {}
    for first in range(0, len(video_ids), 500):
        some = video.c.id.in_(video_ids[first : first + 500])
        found |= {row.id: row.uri for row in connection.execute(select(video.c.id, video.c.uri).where(some))}
    return found


def known_among(connection: Connection, some_uris: list[str]) -> set[str]:
    """Those of these uris that the catalog knows."""
    found: set[str] = set()
    for first in range(0, len(some_uris), 500):
        some = video.c.uri.in_(some_uris[first : first + 500])
        found.update(connection.execute(select(video.c.uri).where(some)).scalars())
    return found


def contradictions(connection: Connection) -> list[OneResult]:
    """Results whose columns do not fit together."""
    has_rows, has_bytes = result.c.part_id.is_not(None), result.c.indexed_fingerprint.is_not(None)
    wrong = or_(
        and_(has_rows, ~has_bytes),
        and_(has_bytes, ~has_rows),
        result.c.indexed_fingerprint != video.c.fingerprint,
        and_(result.c.state == "indexed", or_(~has_rows, result.c.fingerprint != result.c.indexed_fingerprint)),
        and_(result.c.state.in_(("failed", "skipped")), has_rows),
    )
    statement = select(video.c.uri, result.c.recipe_id).join_from(result, video).where(wrong).order_by(video.c.uri)
    return [OneResult(*row) for row in connection.execute(statement)]


def wrong_part_states(connection: Connection) -> list[str]:
    """The names of parts that are live and named by no result, or the other way round."""
    named = exists().where(result.c.part_id == part.c.id)
    live = part.c.state == "live"
    statement = select(part.c.name).where(or_(and_(live, ~named), and_(~live, named))).order_by(part.c.name)
    return list(connection.execute(statement).scalars())


def broken_pages(connection: Connection) -> list[str]:
    """What SQLite finds wrong in its own file. PostgreSQL has tools of its own for that (pg_amcheck)."""
    if connection.dialect.name != "sqlite":
        return []
    return [text for text in connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars() if text != "ok"]
