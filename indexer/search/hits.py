"""The hits of labels, from SQL: how many there are, and the best of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer.search.recipes import SearchedRecipe
from indexer.search.videos import VIDEOS_AT_ONCE, VideoFilter

STRONG = 5000
"""Score, in ten-thousandths, from which the hits of each label are in an index by score."""

_COUNT = text(
    "SELECT coalesce(sum(n), 0) FROM label_stat WHERE recipe_id = :recipe_id AND label_id IN :labels AND bucket >= :bucket"
).bindparams(bindparam("labels", expanding=True))

_BEST = "SELECT score, video_id FROM hit WHERE recipe_id = :recipe_id AND label_id = :label_id AND score >= :score"
# Not a parameter: whoever reads an index of some rows must say that no others are asked for.
_STRONG = f" AND score >= {STRONG}"


class BestHits(NamedTuple):
    """Of some labels, up to a place in the order of scores, then of video ids."""

    hits: list[tuple[int, int]]
    """Those in allowed videos, as (-score, video id), in this order."""
    end: tuple[int, int] | None
    """The place: what is not among them comes after it. None if there is nothing else."""


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

    def best(self, labels: tuple[str, ...], least_score: int, count: int, videos: VideoFilter) -> BestHits:
        """Look through so many of the best hits of each label."""
        enough = least_score >= STRONG or self.count(labels, STRONG) >= count
        some = _BEST + (_STRONG if enough else "") + " ORDER BY score DESC, video_id LIMIT :count"
        statement = text(f"SELECT score, video_id, {videos.allows('best.video_id')} FROM ({some}) AS best")
        hits, ends = [], []
        for recipe in self._recipes:
            for label_id in ids(recipe, labels):
                values = {"recipe_id": recipe.recipe_id, "label_id": label_id, "score": least_score, "count": count}
                found = self._connection.execute(statement, {**values, **videos.values}).all()
                hits += [(-score, video_id) for score, video_id, allowed in found if allowed]
                if len(found) == count:
                    ends.append(max((-score, video_id) for score, video_id, _ in found))
                elif enough and least_score < STRONG:
                    ends.append((-STRONG, sys.maxsize))  # weaker ones come after all of these
        end = min(ends, default=None)
        return BestHits(sorted(hit for hit in hits if end is None or hit <= end), end)

    def best_of(self, video_ids: Sequence[int], labels: tuple[str, ...], least_score: int) -> dict[int, int]:
        """Video id -> the best score that any of these labels has in it; videos without any are left out."""
        best: dict[int, int] = {}
        for first in range(0, len(video_ids), VIDEOS_AT_ONCE):
            some = video_ids[first : first + VIDEOS_AT_ONCE]
            for recipe in self._recipes:
                named = _named(recipe.recipe_id, ids(recipe, labels), some, least_score)
                statement = f"SELECT video_id, max(score) FROM hit WHERE {named} GROUP BY video_id"
                for video_id, score in self._connection.exec_driver_sql(statement):
                    best[video_id] = max(score, best.get(video_id, 0))
        return best

    def of(
        self, video_ids: Sequence[int], recipe: SearchedRecipe, label_ids: Iterable[int], least_score: int
    ) -> Sequence[Any]:
        """(video id, start_ms, end_ms, score, label id) of the hits of these labels in these videos."""
        named = _named(recipe.recipe_id, label_ids, video_ids, least_score)
        statement = f"SELECT video_id, start_ms, end_ms, score, label_id FROM hit WHERE {named}"
        return self._connection.exec_driver_sql(statement).all()


def _named(recipe_id: int, label_ids: Iterable[int], video_ids: Iterable[int], least_score: int) -> str:
    """With the labels and the videos named, a look-up by key. The plus keeps planners away from the index by score.

    Numbers of our own, in the text: hundreds of parameters would take longer to pass on than the hits to find.
    """
    labels, videos = (", ".join(map(str, numbers)) or "NULL" for numbers in (label_ids, video_ids))
    return f"recipe_id = {recipe_id} AND label_id IN ({labels}) AND video_id IN ({videos}) AND +score >= {least_score}"


def ids(recipe: SearchedRecipe, labels: Iterable[str]) -> list[int]:
    return [recipe.label_ids[label] for label in labels if label in recipe.label_ids]
