"""The vectors of parts of indexed videos, from the shards of the live parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, text

from indexer.catalog.connect import reading
from indexer.errors import ConfigError
from indexer.search.dots import Float16s, Float32s, mean_direction
from indexer.search.recipes import SearchedRecipe, searched_recipes
from indexer.search.shards import Shard, ShardedPart, Shards
from indexer.search.span import Span
from indexer.search.videos import VIDEOS_AT_ONCE

_PARTS_OF_VIDEOS = text(
    "SELECT video.uri, part.id, part.name, part.sha256, part.rows FROM part JOIN result ON result.part_id = part.id"
    " JOIN video ON video.id = result.video_id WHERE result.recipe_id = :recipe_id AND video.uri IN :uris"
).bindparams(bindparam("uris", expanding=True))


def own_recipe(connection: Connection, digest: str | None) -> SearchedRecipe | None:
    """The recipe with this digest, if anything was indexed with it: vectors of two recipes mean nothing to each other."""
    return next((recipe for recipe in searched_recipes(connection, digest, None) if recipe.own), None)


def mean_directions(engine: Engine, shards: Shards, spans: Sequence[Span], recipe_digest: str | None) -> Float32s:
    """[spans, width]: of each span the mean direction of the segments that it overlaps, of length 1; zero if they have none.

    Without spans [0, 0]. Raises ConfigError if a video has no results of this recipe, OutputError if a part cannot be read.
    """
    with reading(engine) as connection:
        recipe = own_recipe(connection, recipe_digest)
        if spans and recipe is None:
            raise ConfigError("nothing is indexed with the settings of this job yet, so there are no embeddings; run it first")
        units = [] if recipe is None else units_of_spans(connection, shards, recipe, spans)
    return np.stack([mean_direction(of_span) for of_span in units]) if units else np.empty((0, 0), np.float32)


def units_of_spans(connection: Connection, shards: Shards, recipe: SearchedRecipe, spans: Sequence[Span]) -> list[Float16s]:
    """Of each span the vectors [n, width] of the segments that it overlaps, at least one. Raises as `mean_directions`."""
    parts = _parts_of(connection, recipe, list(dict.fromkeys(span.uri for span in spans)))
    lost = next((span.uri for span in spans if span.uri not in parts), None)
    if lost is not None:
        raise ConfigError(f"{lost!r} is not indexed with the settings of this job; run it first, or compare with a file")
    distinct = list(dict.fromkeys(parts.values()))
    opened = dict(zip(distinct, shards.open(distinct), strict=True))
    return [_units(opened[parts[span.uri]], span) for span in spans]


def _parts_of(connection: Connection, recipe: SearchedRecipe, uris: Sequence[str]) -> dict[str, ShardedPart]:
    """Uri -> the part with the live rows of this video. One that has none is left out."""
    parts = {}
    for first in range(0, len(uris), VIDEOS_AT_ONCE):
        values = {"recipe_id": recipe.recipe_id, "uris": uris[first : first + VIDEOS_AT_ONCE]}
        parts.update({uri: ShardedPart(*part) for uri, *part in connection.execute(_PARTS_OF_VIDEOS, values)})
    return parts


def _units(shard: Shard, span: Span) -> Float16s:
    rows = shard.rows_of(shard.uris.index(span.uri).as_py())
    begins, ends = shard.start_ms[rows] < span.end_ms, shard.end_ms[rows] > span.start_ms
    if not (begins & ends).any():
        end = shard.end_ms[rows][-1] / 1000
        raise ConfigError(f"{span.uri!r} has no segment there: it is indexed up to second {end:g}")
    return shard.vectors[rows][begins & ends]
