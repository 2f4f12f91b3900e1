"""The rows of the SQL index, and the summary that counts them. Called by `commit` alone, inside its transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, text

from indexer.catalog.tables import hit, label, label_stat, recipe
from indexer.records import IndexedVideo

_VIDEOS_PER_DELETE = 200

_INSERT = "INSERT INTO hit (recipe_id, label_id, video_id, start_ms, end_ms, score) VALUES (?, ?, ?, ?, ?, ?)"

_ADD_COUNT = text(
    "INSERT INTO label_stat (recipe_id, label_id, bucket, n) VALUES (:recipe_id, :label_id, :bucket, :n)"
    " ON CONFLICT (recipe_id, label_id, bucket) DO UPDATE SET n = label_stat.n + excluded.n"
)

_Row = tuple[int, int, int, int, int, int]


def add_hits(
    connection: Connection,
    recipe_id: int,
    label_ids: Mapping[str, int],
    videos: Iterable[tuple[int, IndexedVideo]],
) -> None:
    """Insert a hit for every label of every segment of `videos`, each given with its id. They have none yet."""
    rows: list[_Row] = [
        (recipe_id, label_ids[name], video_id, segment.start_ms, segment.end_ms, round(10_000 * score))
        for video_id, indexed in videos
        for segment in indexed.segments
        for name, score in zip(segment.labels, segment.scores, strict=True)
    ]
    rows.sort()  # in the order of the table: 400 places of the tree are touched one after the other, not in turns
    _insert(connection, rows)
    _count(connection, recipe_id, Counter((row[1], _bucket(row[5])) for row in rows))


def remove_hits(connection: Connection, recipe_id: int, video_ids: Sequence[int]) -> None:
    """Delete all hits of these videos under this recipe."""
    # Naming the labels turns the delete into look-ups by key, 400 a video; without them it reads every hit of the recipe.
    labels = select(label.c.id).join(recipe, recipe.c.label_set == label.c.label_set).where(recipe.c.id == recipe_id)
    removed: Counter[tuple[int, int]] = Counter()
    for first in range(0, len(video_ids), _VIDEOS_PER_DELETE):
        deleted = connection.execute(
            delete(hit)
            .where(
                hit.c.recipe_id == recipe_id,
                hit.c.label_id.in_(labels),
                hit.c.video_id.in_(video_ids[first : first + _VIDEOS_PER_DELETE]),
            )
            .returning(hit.c.label_id, hit.c.score)
        )
        removed.subtract((label_id, _bucket(score)) for label_id, score in deleted)
    _count(connection, recipe_id, removed)


def _insert(connection: Connection, rows: list[_Row]) -> None:
    """Tuples straight to the driver: a fifth of the time that the same rows take as dicts."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_INSERT, rows)
    else:
        names = [column.name for column in hit.columns]
        connection.execute(insert(hit), [dict(zip(names, row, strict=True)) for row in rows])


def _bucket(score: int) -> int:
    """Ten buckets, a tenth of the scale each; a full 10000 belongs to the last."""
    return min(score // 1000, 9)


def _count(connection: Connection, recipe_id: int, changes: Counter[tuple[int, int]]) -> None:
    # Sorted, so that two writers of PostgreSQL take their row locks in one order.
    counts = [
        {"recipe_id": recipe_id, "label_id": label_id, "bucket": bucket, "n": n}
        for (label_id, bucket), n in sorted(changes.items())
    ]
    if counts:
        connection.execute(_ADD_COUNT, counts)
        connection.execute(delete(label_stat).where(label_stat.c.recipe_id == recipe_id, label_stat.c.n == 0))
