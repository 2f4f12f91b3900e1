"""The moments that a question finds, from SQL: which videos are looked into, and in what order, to read little in vain.

A label with few hits is read whole, and its moments are counted. Of others, the best moments are found through the best hits
(of two actions, those of the rarer one: a video is looked at only if the lesser of its best hits may still be among the best),
the newest ones through the newest videos: those that have hits if the label is not too common, else all. Where few videos are
allowed, they lead. Some hundred videos are held at a time.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from indexer.search import costs
from indexer.search.hits import STRONG, Hits, ids
from indexer.search.moments import Hit, Moment, merge, near, overlaps
from indexer.search.query import Limit
from indexer.search.recipes import SearchedRecipe, Standing, standing_results
from indexer.search.videos import VIDEOS_AT_ONCE, FoundVideo, Sort, VideoFilter, Wanted, in_chunks

WHOLE = 300
"""Hits that are read at once without much ado: some milliseconds. Moments of rarer labels are all counted."""
MOST_HITS = 30_000
"""Best hits of a common label that are looked through before all its videos are."""
_PORTION = 30_000
"""Segments of the videos whose hits are held at a time."""
SEEN = 0.1
"""Score from which a label that is left out counts as seen: the index knows traces of many labels everywhere."""

_FEW_VIDEOS = 16
_HITS_PER_MOMENT = 2
"""Best hits that are looked at first for each moment wanted ..."""
_HITS_IF_FILTERED = 10
"""... if only some videos are allowed ..."""
_GROWTH = 3
"""... and how many times more, at least, if they were too few ..."""
_MARGIN = 1.3
"""... or so many times what seems to be needed."""
_GIVE_UP = 18
"""Best hits for each moment wanted from which it is asked whether to go on, if only some videos are allowed."""

Found = tuple[Moment, FoundVideo]


@dataclass(frozen=True, slots=True)
class Question:
    """A query whose words have become labels."""

    action: tuple[str, ...]
    near: tuple[str, ...] = ()
    """Labels of the second action; none of the first one. Empty if only one was asked for."""
    near_ms: int = 0
    without: tuple[str, ...] = ()
    score: tuple[Limit, ...] = ()
    dur: tuple[Limit, ...] = ()

    @property
    def least_score(self) -> int:
        """Ten-thousandths that a segment must have to count."""
        exact = [(limit.operator, round(10_000 * limit.number, 2)) for limit in self.score]
        least = [math.ceil(n) for operator, n in exact if operator == ">="]
        return max([0, *least, *(math.floor(n) + 1 for operator, n in exact if operator == ">")])

    @property
    def actions(self) -> Sequence[tuple[str, ...]]:
        """Their labels; every moment shows them all."""
        return [self.action, self.near] if self.near else [self.action]


class Finder:
    """Finds moments in one view of the catalog."""

    def __init__(
        self,
        connection: Connection,
        recipes: Sequence[SearchedRecipe],
        videos: VideoFilter,
        question: Question,
        *,
        indexed: int,
    ) -> None:
        """`indexed`: how many videos there are to look into. `hits` tells how many segments may show the rarer action."""
        self._connection = connection
        self._recipes = recipes
        self._videos = videos
        self._question = question
        self._indexed = indexed
        self._of_labels = Hits(connection, recipes)
        # The rarer action leads.
        self.hits, self._leading = min(
            (self._of_labels.count(labels, question.least_score), labels) for labels in question.actions
        )
        self._second = next((labels for labels in question.actions if labels != self._leading), ())

    def find(self, sort: Sort, limit: int) -> tuple[list[Found], int | None]:
        """The first `limit` moments in this order, and how many there are in all; None if not all were looked at."""
        few_hits = self.hits <= WHOLE
        allowed = self._videos.count(self._connection, costs.MOST_VIDEOS) if self._videos else costs.MOST_VIDEOS
        if allowed == costs.MOST_VIDEOS:  # or more: nobody counts them
            allowed = max(allowed, self._indexed)
        few_videos = bool(self._videos) and (allowed < self.hits if few_hits else self._all_are_fewer(limit, allowed))
        in_order = self._moments(self._in_order(sort, limit, allowed))
        if few_videos and (few_hits or sort == "best"):
            return _first(in_order, sort, limit)
        if few_hits:
            hits = self._of_labels.best(self._leading, self._question.least_score, self.hits + 1, self._videos).hits
            videos = iter(dict.fromkeys(video_id for _, video_id in hits))
            return _first(self._moments(in_chunks(lambda size: list(islice(videos, size)), VIDEOS_AT_ONCE)), sort, limit)
        if sort == "best":
            return self._best(limit) or _first(in_order, sort, limit)
        some = list(islice(in_order, limit + 1))
        return some[:limit], len(some) if len(some) <= limit else None

    def _all_are_fewer(self, limit: int, allowed: int) -> bool:
        strong = self._of_labels.count(self._leading, max(STRONG, self._question.least_score))
        return costs.all_are_fewer(limit, hits=self.hits, strong=strong, indexed=self._indexed, allowed=allowed)

    def _in_order(self, sort: Sort, limit: int, allowed: int) -> Iterator[Sequence[int]]:
        """The ids of allowed videos with hits, in this order: video by video, or through the hits if these are few."""
        wanted = Wanted(
            labels=self._by_recipe(self._leading),
            score=self._question.least_score,
            near=self._by_recipe(self._second),
            near_ms=self._question.near_ms,
            segment_ms=max((recipe.segment_ms for recipe in self._recipes), default=0),
        )
        looked_at, first = float(allowed), VIDEOS_AT_ONCE
        if sort != "best":  # until there are enough
            near = bool(self._second)
            looked_at = costs.looked_at(limit, hits=self.hits, indexed=self._indexed, allowed=allowed, near=near)
            first = costs.videos_of(limit, hits=self.hits, indexed=self._indexed, most=VIDEOS_AT_ONCE)
            first = max(first, _FEW_VIDEOS) if near else first
        if costs.hits_are_fewer(self.hits, looked_at):
            return self._videos.ids_by_hits(self._connection, sort, wanted, first=first)
        return self._videos.ids(self._connection, sort, wanted, first=first, few=allowed < costs.MOST_VIDEOS)

    def _by_recipe(self, labels: Iterable[str]) -> dict[int, list[int]]:
        found = {recipe.recipe_id: ids(recipe, labels) for recipe in self._recipes}
        return {recipe_id: label_ids for recipe_id, label_ids in found.items() if label_ids}

    def _best(self, limit: int) -> tuple[list[Found], int | None] | None:
        """The best moments, if some of the best hits are enough to know; else None."""
        found: list[Found] = []
        waiting: list[tuple[int, int]] = []  # a heap of videos: what their moments may reach at best, and their ids
        known: set[int] = set()
        count = (_HITS_IF_FILTERED if self._videos else _HITS_PER_MOMENT) * limit
        while count <= max(MOST_HITS, _GROWTH * _HITS_PER_MOMENT * limit):
            hits, end = self._of_labels.best(self._leading, self._question.least_score, count, self._videos)
            for video in self._reach([hit for hit in hits if hit[1] not in known]):
                heapq.heappush(waiting, video)
            known.update(video_id for _, video_id in hits)
            sure = self._look_at(waiting, found, end, limit)
            if end is None:
                return _first(found, "best", limit)
            if sure >= limit:
                return _first(found, "best", limit)[0], None
            if self._videos and count >= _GIVE_UP * limit and sure * MOST_HITS < limit * count:
                return None  # at this rate they are too few: the label's hits are in other videos
            count *= max(_GROWTH, min(_GROWTH**2, round(_MARGIN * limit / max(sure, 1)))) if self._videos else _GROWTH
        return None

    def _reach(self, hits: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The videos of these hits, each with what its moments may score at best: no more than either action there."""
        first = {video_id: -score for score, video_id in reversed(hits)}
        if not self._second:
            return ((-score, video_id) for video_id, score in first.items())
        second = self._of_labels.best_of(list(first), self._second, self._question.least_score)
        return ((-min(score, second[video_id]), video_id) for video_id, score in first.items() if video_id in second)

    def _look_at(self, waiting: list[tuple[int, int]], found: list[Found], end: tuple[int, int] | None, limit: int) -> int:
        """Find the moments of the waiting videos that may have one of the best; give how many are certain, `limit` at most.

        None is looked at that comes after `end`, all are if this is None, as then they are counted.
        """
        size = max(_FEW_VIDEOS, limit)
        while True:
            best = heapq.nsmallest(limit, (key for one in found if (key := _place(one)) < end)) if end else []
            beyond = best[-1] if len(best) == limit else end
            chunk: list[int] = []
            while waiting and len(chunk) < size and (beyond is None or waiting[0] < beyond):
                chunk.append(heapq.heappop(waiting)[1])
            if not chunk:
                return len(best)
            found += self._moments([chunk])
            size = min(2 * size, VIDEOS_AT_ONCE)

    def _moments(self, chunks: Iterable[Sequence[int]]) -> Iterator[Found]:
        """All moments of these videos, given by their ids: video by video in the order given, each ordered by start."""
        for video_ids in chunks:
            standing = standing_results(self._connection, self._recipes, video_ids)
            for videos in _portions(self._videos.read(self._connection, standing, video_ids)):
                moments = self._of_action(videos, standing)
                if self._question.without:
                    moments = self._left(moments, standing)
                for moment, video in moments:
                    length_ms = round(1000 * (moment.end_seconds - moment.start_seconds))
                    if _allowed(self._question.score, moment.score) and _allowed(self._question.dur, length_ms):
                        yield moment, video

    def _of_action(self, videos: Sequence[FoundVideo], standing: Mapping[int, Standing]) -> Iterator[Found]:
        question = self._question
        first = self._seen(videos, standing, question.action, question.least_score)
        second = self._seen(videos, standing, question.near, question.least_score) if question.near else {}
        for video in videos:
            moments = first[video.video_id]
            if question.near:
                moments = list(near(moments, second[video.video_id], milliseconds=question.near_ms))
            yield from ((moment, video) for moment in moments)

    def _left(self, found: Iterable[Found], standing: Mapping[int, Standing]) -> Iterator[Found]:
        """Those that overlap nothing that is left out."""
        kept = list(found)
        videos = list({video.video_id: video for _, video in kept}.values())
        least = max(self._question.least_score, round(10_000 * SEEN))
        seen = self._seen(videos, standing, self._question.without, least)
        return (one for one in kept if not overlaps(one[0], seen[one[1].video_id]))

    def _seen(
        self, videos: Sequence[FoundVideo], standing: Mapping[int, Standing], labels: tuple[str, ...], least_score: int
    ) -> dict[int, list[Moment]]:
        """Video id -> the moments of any of these labels in it, ordered by start."""
        hits: dict[int, list[Hit]] = defaultdict(list)
        for recipe in self._recipes:
            names = {recipe.label_ids[label]: label for label in labels if label in recipe.label_ids}
            own = [video.video_id for video in videos if standing[video.video_id].recipe is recipe]
            for video_id, start_ms, end_ms, score, label_id in self._of_labels.of(own, recipe, names, least_score):
                hits[video_id].append(Hit(start_ms, end_ms, score, names[label_id]))
        return {
            video.video_id: list(
                merge(video.uri, sorted(hits[video.video_id]), segment_ms=standing[video.video_id].recipe.segment_ms)
            )
            for video in videos
        }


def _allowed(limits: Iterable[Limit], value: float) -> bool:
    return all(limit.allows(value) for limit in limits)


def _portions(videos: Iterable[FoundVideo]) -> Iterator[list[FoundVideo]]:
    """As many videos at a time as have at most _PORTION segments; one at least."""
    portion: list[FoundVideo] = []
    segments = 0
    for video in videos:
        if portion and segments + video.segments > _PORTION:
            yield portion
            portion, segments = [], 0
        portion.append(video)
        segments += video.segments
    if portion:
        yield portion


def _first(found: Iterable[Found], sort: Sort, limit: int) -> tuple[list[Found], int]:
    """The first `limit` in this order, and how many there are in all. Holds only as many as it gives."""
    total = 0

    def counted() -> Iterator[Found]:
        nonlocal total
        for one in found:
            total += 1
            yield one

    return heapq.nsmallest(limit, counted(), key=_KEYS[sort]), total


def _place(found: Found) -> tuple[int, int]:
    """Of a moment in the order of the best hits."""
    return -round(10_000 * found[0].score), found[1].video_id


_KEYS: dict[Sort, Callable[[Found], tuple[Any, ...]]] = {
    "best": lambda found: (-found[0].score, found[1].video_id, found[0].start_seconds),  # the order of the best hits
    "newest": lambda found: (-found[1].modified_at, found[0].uri, found[0].start_seconds),
    "video": lambda found: (found[0].uri, found[0].start_seconds),
}
