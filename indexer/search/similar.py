"""One example, one answer: the moments that look most like it. Every live segment is compared, up to some millions of them.

What is live, and what the question allows, the catalog says; the vectors come from the shards of the live parts. Only results
of the job's own recipe are compared: embeddings of two models, or of two ways to sample, mean nothing to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, bindparam, text

from indexer.catalog.connect import reading
from indexer.errors import ConfigError
from indexer.search import cells
from indexer.search.alike import NearSegment, alike_moments, least_alike
from indexer.search.answer import SearchResult
from indexer.search.coverage import coverage
from indexer.search.dots import Float16s, Float32s, dots, mean_direction, some_dots, unit_vectors
from indexer.search.moments import Moment
from indexer.search.recipes import SearchedRecipe, standing_results
from indexer.search.shards import Shard, ShardedPart, Shards
from indexer.search.span import Span
from indexer.search.vectors import own_recipe, units_of_spans
from indexer.search.videos import VIDEOS_AT_ONCE, FoundVideo, VideoFilter, beyond

MOST_SEGMENTS = 30_000
"""Nearest segments that moments are made of, for a small limit; they take a second."""
_SAMPLED = 20_000
"""Rows from which it is known what is ordinary, if not all are compared."""
_GROWTH = 8
"""Nearest segments that are looked at for each moment wanted; and how many times more if they were too few."""

_EVERY_LIVE_PART = text("SELECT sha256 FROM part WHERE state = 'live'")
_PARTS = text(
    "SELECT part.id, part.name, part.sha256, part.rows, sum(result.segments) AS live FROM part"
    " JOIN result ON result.part_id = part.id WHERE result.recipe_id = :recipe_id"
    " GROUP BY part.id, part.name, part.sha256, part.rows ORDER BY part.id"
)
_VIDEOS = (
    "SELECT result.part_id, video.uri FROM result JOIN video ON video.id = result.video_id"
    " WHERE result.recipe_id = :recipe_id AND result.part_id IS NOT NULL AND "
)
_OF_PARTS = text(_VIDEOS + "result.part_id IN :parts").bindparams(bindparam("parts", expanding=True))
_UNDER = text(_VIDEOS + "video.uri >= :first AND video.uri < :beyond")
_IDS = text("SELECT id FROM video WHERE uri IN :uris").bindparams(bindparam("uris", expanding=True))

_Wanted = NDArray[np.bool_] | None


def similar(
    engine: Engine,
    shards: Shards,
    example: Span | NDArray[Any],
    recipe_digest: str | None,
    *,
    name: str,
    min_score: float = 0.0,
    under: str | None = None,
    with_own: bool = False,
    limit: int = 20,
    exact: bool = False,
) -> SearchResult:
    """The `limit` moments, at least one, that are nearest to `example`: a span of an indexed video, or embeddings [n, width].

    Each segment of an example weighs the same. The score is the cosine of the embeddings; segments that score less than
    `min_score`, 0 to 1, do not count. `under` is what the uri begins with. The segments that overlap a span are not in its
    answer, unless `with_own`. `name` is what the answer calls the example. Of very many segments only those in cells near the
    example are compared, if faiss is installed, unless `exact`. Raises ConfigError if there is nothing to compare
    with, OutputError if a part cannot be read.
    """
    with reading(engine) as connection:
        recipe = own_recipe(connection, recipe_digest)
        parts = {} if recipe is None else _live_parts(connection, recipe)
        if recipe is None or not parts:
            raise ConfigError(
                "nothing is indexed with the settings of this job yet, so there is nothing to compare with; run it first"
            )
        own = example if isinstance(example, Span) else None
        wanted = _wanted_videos(connection, recipe, parts, under)
        asked = [part for part in parts if wanted.get(part.part_id) != []]
        opened = shards.open(asked)
        query = mean_direction(_units(connection, shards, recipe, example))
        if opened and len(query) != (width := opened[0].vectors.shape[1]):
            raise ConfigError(f"the example has embeddings of {len(query)} numbers; those of this index have {width}")
        masks = [_mask(shard, wanted.get(part.part_id)) for part, shard in zip(asked, opened, strict=True)]
        if not exact and cells.has_faiss() and _rows(opened, masks) >= cells.FROM_SEGMENTS:
            pairs = [(part.sha256, shard.vectors) for part, shard in zip(asked, opened, strict=True)]
            rows = shards.cells.near(pairs, query, probed=cells.PROBED)
            cosines = [_some(shard, query, some, mask) for shard, some, mask in zip(opened, rows, masks, strict=True)]
            compared = _Compared(opened, cosines, None if with_own else own, recipe.segment_ms, query)
        else:
            cosines = dots([shard.vectors for shard in opened], query, masks)
            compared = _Compared(opened, cosines, None if with_own else own, recipe.segment_ms)
        moments, total = compared.moments(min_score, limit)
        shards.keep(connection.execute(_EVERY_LIVE_PART).scalars())
        return SearchResult(
            query=name,
            labels=(),
            candidates=(),
            unknown=None,
            moments=tuple(moments),
            total=total,
            coverage=coverage(connection, [recipe]),
            videos={video.uri: video for video in _videos(connection, recipe, [moment.uri for moment in moments])},
            compared=sum(int(np.count_nonzero(some > -np.inf)) for some in cosines),
            exact=compared.query is None,
        )


@dataclass(frozen=True, slots=True)
class _Compared:
    """The rows that were compared, and how near they are."""

    shards: Sequence[Shard]
    cosines: Sequence[Float32s]
    """Of each shard: [rows], -inf for a row that is not live, or not asked for."""
    own: Span | None
    """The example, if it is not to be part of the answer."""
    segment_ms: int
    query: Float32s | None = None
    """The direction of the example, if not all rows were compared."""

    def moments(self, min_score: float, limit: int) -> tuple[list[Moment], int | None]:
        """The first `limit`, nearest first, and how many there are in all; None if not all were looked at."""
        cosines = np.concatenate([np.empty(0, np.float32), *(some[some > -np.inf] for some in self.cosines)])
        if not len(cosines):
            return [], 0
        ordinary = float(np.median(cosines if self.query is None else self._anywhere(self.query)))
        count = _GROWTH * limit
        while True:
            nearest = -1.0 if count >= len(cosines) else float(np.partition(cosines, -count)[-count])
            least_peak = max(min_score, nearest)
            found = list(self._from(least_peak, min_score, ordinary))
            all_seen = nearest <= min_score and self.query is None
            if all_seen or len(found) >= limit or nearest <= min_score or count >= max(MOST_SEGMENTS, _GROWTH**2 * limit):
                found.sort(key=lambda moment: (-moment.score, moment.uri, moment.start_seconds))
                return found[:limit], len(found) if all_seen else None
            count *= _GROWTH

    def _anywhere(self, query: Float32s) -> Float32s:
        """How near evenly spaced rows are."""
        step = max(1, sum(len(shard.vectors) for shard in self.shards) // _SAMPLED)
        return np.concatenate([some_dots(shard.vectors, query, slice(0, None, step)) for shard in self.shards])

    def _from(self, least_peak: float, min_score: float, ordinary: float) -> Iterator[Moment]:
        """The moments whose best segment is at least as near as `least_peak`."""
        floor = max(min_score, least_alike(least_peak, ordinary))
        for shard, cosines in zip(self.shards, self.cosines, strict=True):
            for video in np.unique(shard.video[cosines >= least_peak]):
                uri = shard.uris[int(video)].as_py()
                for segments in self._segments(shard, cosines, shard.rows_of(int(video)), uri, floor):
                    yield from alike_moments(
                        uri, segments, ordinary=ordinary, least_peak=least_peak, segment_ms=self.segment_ms
                    )

    def _segments(
        self, shard: Shard, cosines: Float32s, rows: slice, uri: str, floor: float
    ) -> Iterator[Sequence[NearSegment]]:
        """The segments of one video that are at least as near as `floor`, in order: before the example, and after it."""
        own = self.own if self.own is not None and self.own.uri == uri else None
        if self.query is not None:  # what lies around a near segment need not be in a near cell
            cosines[rows] = some_dots(shard.vectors, self.query, rows)
        before, after = [], []
        for row in (rows.start + np.flatnonzero(cosines[rows] >= floor)).tolist():
            start_ms, end_ms = int(shard.start_ms[row]), int(shard.end_ms[row])
            near = NearSegment(start_ms, end_ms, float(cosines[row]), shard.labels[shard.label[row]])
            if own is None or end_ms <= own.start_ms:
                before.append(near)
            elif start_ms >= own.end_ms:
                after.append(near)
        yield before
        yield after


def _live_parts(connection: Connection, recipe: SearchedRecipe) -> dict[ShardedPart, bool]:
    """The parts with live rows of this recipe -> whether all of their rows are live."""
    rows = connection.execute(_PARTS, {"recipe_id": recipe.recipe_id})
    return {ShardedPart(row.id, row.name, row.sha256, row.rows): int(row.live) == row.rows for row in rows}


def _wanted_videos(
    connection: Connection, recipe: SearchedRecipe, parts: Mapping[ShardedPart, bool], under: str | None
) -> dict[int, list[str]]:
    """Part id -> the uris of its videos that are live and asked for. A part that is not named is wanted whole."""
    values: dict[str, Any] = {"recipe_id": recipe.recipe_id}
    if under:
        named = list(parts)
        rows = connection.execute(_UNDER, values | {"first": under, "beyond": beyond(under)})
    else:
        named = [part for part, whole in parts.items() if not whole]
        rows = connection.execute(_OF_PARTS, values | {"parts": [part.part_id for part in named]})
    wanted: dict[int, list[str]] = {part.part_id: [] for part in named}
    for part_id, uri in rows:
        wanted[part_id].append(uri)
    return wanted


def _mask(shard: Shard, uris: list[str] | None) -> _Wanted:
    return None if uris is None else shard.rows_of_videos(uris)


def _rows(opened: Sequence[Shard], masks: Sequence[_Wanted]) -> int:
    """How many would be compared."""
    return sum(len(shard.vectors) if mask is None else int(mask.sum()) for shard, mask in zip(opened, masks, strict=True))


def _some(shard: Shard, query: Float32s, rows: NDArray[np.int64], mask: _Wanted) -> Float32s:
    """As `dots` says of a shard, if only these rows are asked for."""
    asked = rows if mask is None else rows[mask[rows]]
    cosines = np.full(len(shard.vectors), -np.inf, np.float32)
    cosines[asked] = some_dots(shard.vectors, query, asked)
    return cosines


def _units(connection: Connection, shards: Shards, recipe: SearchedRecipe, example: Span | NDArray[Any]) -> Float16s:
    if isinstance(example, Span):
        return units_of_spans(connection, shards, recipe, [example])[0]
    vectors = np.asarray(example)
    if vectors.ndim != 2 or not len(vectors):
        raise ConfigError(f"an example is a matrix [n, width] of at least one embedding, not {list(vectors.shape)}")
    return unit_vectors(vectors)


def _videos(connection: Connection, recipe: SearchedRecipe, uris: Sequence[str]) -> Iterator[FoundVideo]:
    distinct = list(dict.fromkeys(uris))
    for first in range(0, len(distinct), VIDEOS_AT_ONCE):
        ids = connection.execute(_IDS, {"uris": distinct[first : first + VIDEOS_AT_ONCE]}).scalars().all()
        yield from VideoFilter().read(connection, standing_results(connection, [recipe], ids), ids)
