"""What the catalog says of a video under a recipe: read under a lock, and changed. Called inside the transactions of `commit`,
and of what moves, puts right, fills and forgets: `parts`, `repair`, `restore`, `forget`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, bindparam, select, update

from indexer.catalog.hits import Counts, remove_hits
from indexer.catalog.tables import result, video
from indexer.records import Failure, IndexedVideo, Outcome, Skipped

Result: TypeAlias = Row[Any]
"""One row of `result`, with the uri of its video."""

_URIS_PER_QUERY = 500

NO_ROWS = {"part_id": None, "indexed_fingerprint": None, "segments": 0, "clips": 0, "warnings": "[]"}
_NO_INFO = {"duration_ms": None, "width": None, "height": None, "codec": None, "average_fps": None}


def lock_results(connection: Connection, uris: Sequence[str]) -> list[Result]:
    """The results of these videos under all recipes.

    Whoever changes results locks the rows of their videos first, in one order: so what is read after that stays true.
    """
    rows: list[Result] = []
    for first in range(0, len(uris), _URIS_PER_QUERY):
        some = video.c.uri.in_(uris[first : first + _URIS_PER_QUERY])
        connection.execute(select(video.c.id).where(some).order_by(video.c.uri).with_for_update()).all()
        rows.extend(
            connection.execute(
                select(
                    video.c.uri,
                    result.c.video_id,
                    result.c.recipe_id,
                    result.c.fence,
                    result.c.part_id,
                    result.c.fingerprint,
                    result.c.indexed_fingerprint,
                )
                .join_from(video, result)
                .where(some)
                .order_by(video.c.uri, result.c.recipe_id)
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What is no longer in the index."""

    hits: Counts
    part_ids: set[int]
    """Parts that lost rows."""


def withdraw(connection: Connection, rows: Iterable[Result], now: float) -> Withdrawn:
    """Take the rows of these results out of the index; the results are pending."""
    live = [row for row in rows if row.part_id is not None]
    by_recipe: dict[int, list[int]] = defaultdict(list)
    for row in live:
        by_recipe[row.recipe_id].append(row.video_id)
    hits: Counts = Counter()
    for recipe_id, video_ids in sorted(by_recipe.items()):
        hits += remove_hits(connection, recipe_id, video_ids)
    change(connection, live, {**NO_ROWS, "state": "pending", "updated_at": now})
    return Withdrawn(hits, {row.part_id for row in live})


def void_claims(connection: Connection, rows: Iterable[Result]) -> None:
    """Nobody may commit these results until they are claimed again."""
    change(connection, [row for row in rows if row.fence is not None], {"fence": None})


def change(connection: Connection, rows: Sequence[Result], values: dict[str, Any]) -> None:
    """Set the same values in all of these results."""
    if rows:
        connection.execute(
            update(result)
            .where(result.c.video_id == bindparam("of_video"), result.c.recipe_id == bindparam("of_recipe"))
            .values(values),
            [{"of_video": row.video_id, "of_recipe": row.recipe_id} for row in rows],
        )


def store(
    connection: Connection, recipe_id: int, part_id: int | None, done: Sequence[tuple[int, Outcome]], now: float
) -> None:
    """Write down the outcomes of videos, each given with its id."""
    if not done:
        return
    columns = ("state", "code", "message", "fingerprint", *NO_ROWS)
    connection.execute(
        update(result)
        .where(result.c.video_id == bindparam("of_video"), result.c.recipe_id == recipe_id)
        .values({column: bindparam(f"new_{column}") for column in columns} | {"updated_at": now}),
        [
            {"of_video": video_id} | {f"new_{column}": value for column, value in _state(outcome, part_id).items()}
            for video_id, outcome in done
        ],
    )


def describe_videos(connection: Connection, done: Iterable[tuple[int, Outcome]]) -> None:
    """Keep what is known of the committed bytes. Without new knowledge, that of other bytes is forgotten."""
    known, unknown = [], []
    for video_id, outcome in done:
        row = {"of_video": video_id, "new_fingerprint": outcome.video.fingerprint}
        if isinstance(outcome, IndexedVideo):
            info = outcome.info
            facts = (round(1000 * info.duration_seconds), info.width, info.height, info.codec, info.average_fps)
            known.append(row | {f"new_{column}": fact for column, fact in zip(_NO_INFO, facts, strict=True)})
        else:
            unknown.append(row)
    described = update(video).where(video.c.id == bindparam("of_video")).values(fingerprint=bindparam("new_fingerprint"))
    if known:
        connection.execute(described.values({column: bindparam(f"new_{column}") for column in _NO_INFO}), known)
    if unknown:
        connection.execute(described.where(video.c.fingerprint != bindparam("new_fingerprint")).values(_NO_INFO), unknown)


def _state(outcome: Outcome, part_id: int | None) -> dict[str, Any]:
    values = {"fingerprint": outcome.video.fingerprint, "code": None, "message": None, **NO_ROWS}
    match outcome:
        case IndexedVideo():
            return values | {
                "state": "indexed",
                "part_id": part_id,
                "indexed_fingerprint": outcome.video.fingerprint,
                "segments": len(outcome.segments),
                "clips": sum(segment.clips for segment in outcome.segments),
                "warnings": json.dumps(outcome.warnings),
            }
        case Failure():
            return values | {"state": "failed", "code": outcome.code, "message": _storable(outcome.message)}
        case Skipped():
            return values | {"state": "skipped", "code": outcome.reason}


def _storable(message: str) -> str:
    """Messages quote what decoders say of damaged files: databases refuse half characters and NUL."""
    return message.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
