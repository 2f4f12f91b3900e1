"""Which rows of which parts are live, for other programs: the rows of a video in the part that its result names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from indexer.catalog.connect import reading
from indexer.catalog.tables import part, result, video

_ROWS_AT_ONCE = 10_000


class LivePart(NamedTuple):
    """A part with live rows of one recipe."""

    name: str
    """Below output.uri."""
    rows: int
    live_rows: int
    """The others are older results of videos that were indexed again, or are gone."""
    videos: int
    """With live rows."""
    bytes: int


class PlacedVideo(NamedTuple):
    """A video with live rows, and where they are: all that its part has of it."""

    part: str
    """The name of the part."""
    uri: str
    segments: int


def live_parts(engine: Engine, recipe_id: int) -> list[LivePart]:
    """The parts with live rows of this recipe, oldest first."""
    statement = (
        select(part.c.name, part.c.rows, func.sum(result.c.segments), func.count(), part.c.bytes)
        .join_from(part, result, result.c.part_id == part.c.id)
        .where(result.c.recipe_id == recipe_id)
        .group_by(part.c.id, part.c.name, part.c.rows, part.c.bytes)
        .order_by(part.c.id)
    )
    with reading(engine) as connection:
        return [LivePart(*row)._replace(live_rows=int(row[2])) for row in connection.execute(statement)]


def placed_videos(engine: Engine, recipe_id: int) -> Iterator[list[PlacedVideo]]:
    """Each video with live rows of this recipe, some thousands at a time, part by part."""
    statement = (
        select(part.c.name, video.c.uri, result.c.segments)
        .join_from(result, part, result.c.part_id == part.c.id)
        .join(video, video.c.id == result.c.video_id)
        .where(result.c.recipe_id == recipe_id)
        .order_by(result.c.part_id, video.c.uri)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement, execution_options={"yield_per": _ROWS_AT_ONCE})
        yield from ([PlacedVideo(*row) for row in some] for some in rows.partitions(_ROWS_AT_ONCE))
