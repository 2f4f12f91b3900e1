"""The hits of labels, from SQL: how many there are, and the best of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import Connection, bindparam, text

from indexer.search.recipes import SearchedRecipe
from indexer.search.videos import VIDEOS_AT_ONCE

STRONG = 5000
"""Score, in ten-thousandths, from which the hits of each label are in an index by score."""

_COUNT = text(
    "SELECT coalesce(sum(n), 0) FROM label_stat WHERE recipe_id = :recipe_id AND label_id IN :labels AND bucket >= :bucket"
).bindparams(bindparam("labels", expanding=True))

_BEST = "SELECT score, video_id FROM hit WHERE recipe_id = :recipe_id AND label_id = :label_id AND score >= :score"
_IN_ORDER = " ORDER BY score DESC, video_id LIMIT :count"
_BEST_OF_ANY = text(_BEST + _IN_ORDER)
# Not a parameter: whoever reads an index of some rows must say that no others are asked for.
_BEST_OF_STRONG = text(f"{_BEST} AND score >= {STRONG}{_IN_ORDER}")

# The plus keeps planners away from the index by score.
_BEST_OF_VIDEOS = text(
    "SELECT video_id, max(score) FROM hit WHERE recipe_id = :recipe_id AND label_id IN :labels AND video_id IN :videos"
    " AND +score >= :score GROUP BY video_id"
).bindparams(bindparam("labels", expanding=True), bindparam("videos", expanding=True))


class Hits:
    """Those of one view of the catalog; hits of old results, which no longer stand for a video, are among them."""

    def __init__(self, connection: Connection, recipes: Sequence[SearchedRecipe]) -> None:
        self._connection = connection
        self._recipes = recipes

    def count(self, labels: tuple[str, ...], least_score: int) -> int:
        """How many hits these labels have, or a few more: they are counted by tenths of the score."""
        bucket = min(least_score // 1000, 9)
        count = 0
        for recipe in self._recipes:
            values = {"recipe_id": recipe.recipe_id, "labels": ids(recipe, labels), "bucket": bucket}
            count += int(self._connection.execute(_COUNT, values).scalar_one())
        return count

    def best(self, labels: tuple[str, ...], least_score: int, count: int) -> list[tuple[int, int]]:
        """So many of the best hits of these labels, as (-score, video id), in this order."""
        enough = least_score >= STRONG or self.count(labels, STRONG) >= count
        statement = _BEST_OF_STRONG if enough else _BEST_OF_ANY
        streams = []
        for recipe in self._recipes:
            for label_id in ids(recipe, labels):
                values = {"recipe_id": recipe.recipe_id, "label_id": label_id, "score": least_score, "count": count}
                rows = self._connection.execute(statement, values).all()
                streams.append([(-score, video_id) for score, video_id in rows])
        return list(islice(heapq.merge(*streams), count))

    def best_of(self, video_ids: Sequence[int], labels: tuple[str, ...], least_score: int) -> dict[int, int]:
        """Video id -> the best score that any of these labels has in it; videos without any are left out."""
        best: dict[int, int] = {}
        for first in range(0, len(video_ids), VIDEOS_AT_ONCE):
            some = video_ids[first : first + VIDEOS_AT_ONCE]
            for recipe in self._recipes:
                values = {"recipe_id": recipe.recipe_id, "labels": ids(recipe, labels), "videos": some, "score": least_score}
                for video_id, score in self._connection.execute(_BEST_OF_VIDEOS, values):
                    best[video_id] = max(score, best.get(video_id, 0))
        return best


def ids(recipe: SearchedRecipe, labels: Iterable[str]) -> list[int]:
    return [recipe.label_ids[label] for label in labels if label in recipe.label_ids]
