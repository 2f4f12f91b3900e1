"""The hits of a label, from SQL. Which recipe's results stand for a video is decided here.

A video shows the results of the job's own recipe if it has any. If not, it shows those that were committed last under any
other recipe: after a change of the model, the old results stay searchable until the new ones are there. The two never mix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from sqlalchemy import Connection, text

Hit: TypeAlias = tuple[str, int, int, int, int]
"""One segment in which a label was seen: uri, start_ms, end_ms, score in ten-thousandths, and the length in ms of the segments
of this video (its last one is shorter). A plain row, as SQL gives it: a common label has hundreds of thousands."""

_ROWS_AT_ONCE = 5_000

_IN_USE = "(recipe.digest = :digest OR EXISTS (SELECT 1 FROM part WHERE part.recipe_id = recipe.id AND part.state = 'live'))"

_NAMES = text(f"SELECT DISTINCT label.name FROM recipe JOIN label ON label.label_set = recipe.label_set WHERE {_IN_USE}")

_RECIPES = text(
    "SELECT recipe.id AS recipe_id, recipe.document, label.id AS label_id"
    f" FROM recipe JOIN label ON label.label_set = recipe.label_set WHERE label.name = :label AND {_IN_USE}"
)

# CROSS JOIN makes SQLite read the tables in this order. Either way the rows come out sorted, and nothing has to be.
_HITS = (
    "SELECT video.uri, hit.start_ms, hit.end_ms, hit.score, :segment_ms FROM {tables}"
    " WHERE video.id = hit.video_id AND hit.recipe_id = :recipe_id AND hit.label_id = :label_id AND hit.score >= :score"
)
_UNDER = " AND video.uri >= :first AND video.uri < :beyond"

# The smaller side leads. Counting the videos stops where it would be longer than the label is common.
_FEWER_VIDEOS = text(
    "WITH hits AS (SELECT CAST(coalesce(sum(n), 0) AS BIGINT) AS n"
    " FROM label_stat WHERE recipe_id = :recipe_id AND label_id = :label_id)"
    " SELECT count(*) < (SELECT n FROM hits) FROM"
    " (SELECT 1 FROM video WHERE uri >= :first AND uri < :beyond LIMIT (SELECT n FROM hits)) AS videos"
)
_NOT_BETTER_KNOWN = (
    " AND NOT EXISTS (SELECT 1 FROM result AS preferred JOIN result AS this"
    " ON this.video_id = preferred.video_id AND this.recipe_id = :recipe_id"
    " WHERE preferred.video_id = hit.video_id AND preferred.part_id IS NOT NULL"
    " AND (preferred.recipe_id = :own_id OR preferred.part_id > this.part_id))"
)


def label_names(connection: Connection, recipe_digest: str | None) -> list[str]:
    """All labels that can be searched for: those of the recipe, and of the others that have results."""
    return list(connection.execute(_NAMES, {"digest": recipe_digest or ""}).scalars())


def read_hits(
    connection: Connection, label: str, recipe_digest: str | None, *, min_score: float, under: str | None
) -> Iterator[Hit]:
    """A stream of the segments with this label: those of a video come together, ordered by start.

    `min_score` is 0 to 1. `under` is what the uri begins with, characters, not folders: /a/b also begins /a/bc.
    """
    digest = {"digest": recipe_digest or ""}
    own_id = connection.execute(text("SELECT id FROM recipe WHERE digest = :digest"), digest).scalar() or 0
    recipes = connection.execute(_RECIPES, digest | {"label": label}).all()
    for recipe_id, document, label_id in sorted(recipes, key=lambda row: (row.recipe_id != own_id, row.recipe_id)):
        values: dict[str, Any] = {
            "recipe_id": recipe_id,
            "label_id": label_id,
            "own_id": own_id,
            "segment_ms": round(1000 * json.loads(document)["sampling"]["segment"]),
            "score": math.ceil(round(10_000 * min_score, 6)),
        }
        conditions = "" if recipe_id == own_id else _NOT_BETTER_KNOWN
        tables, order = "hit CROSS JOIN video", "hit.video_id"
        if under:
            values |= {"first": under, "beyond": _beyond(under)}
            conditions += _UNDER
            if connection.execute(_FEWER_VIDEOS, values).scalar():
                tables, order = "video CROSS JOIN hit", "video.uri"
        statement = text(f"{_HITS.format(tables=tables)}{conditions} ORDER BY {order}, hit.start_ms")
        yield from connection.execute(statement, values, execution_options={"yield_per": _ROWS_AT_ONCE})


def _beyond(prefix: str) -> str:
    """The first text, by code points, that is greater than all that begin with `prefix`."""
    head = prefix.rstrip("\U0010ffff")  # the last one there is: what follows it differs further to the left
    if not head:
        return prefix * 2
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters
