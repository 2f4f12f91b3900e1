"""Hits -> moments, for one video: neighbouring segments of an action are one thing to a person.

    hits      [--.91--)[--.88--)          [--.40--)            [--.75--)
    moments   [-------------- score .91 -----------)           [--.75--)      a gap of one segment still belongs

    near      [--.91--)                                        [--.75--)      an action ...
                           [--.80--)                                          ... and another, not far from it
              [------- score .80 --)                                          are one moment of both

All of it is arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple


class Hit(NamedTuple):
    """One segment of a video in which one label was seen."""

    start_ms: int
    end_ms: int
    score: int
    """In ten-thousandths."""
    label: str


_END, _SCORE = itemgetter(1), itemgetter(2)  # of a Hit: there are millions of them


class Moment(NamedTuple):
    """[start_seconds, end_seconds) of one video, in which an action was seen."""

    uri: str
    label: str
    """Of its best segment. If the query asked for two actions near each other, those of both, as in `drinking + laughing`."""
    start_seconds: float
    end_seconds: float
    score: float
    """Of its best segment, 0 to 1; of two actions, that of the lesser one."""
    mean_score: float
    """Of the segments that were hit."""
    segments: int
    """How many were hit."""


def merge(uri: str, hits: Sequence[Hit], *, segment_ms: int) -> Iterator[Moment]:
    """Join hits, ordered by start, whose gap is at most one segment long. A segment may have hits of several labels."""
    group: list[Hit] = []
    end = 0
    for hit in hits:
        if group and hit.start_ms - end > segment_ms:
            yield _joined(uri, group)
            group = []
        if hit.end_ms > end:
            end = hit.end_ms
        group.append(hit)
    if group:
        yield _joined(uri, group)


def near(first: Sequence[Moment], second: Sequence[Moment], *, milliseconds: int) -> Iterator[Moment]:
    """Join moments of a video with those of another action whose gap is at most this; what then overlaps is one moment.

    Both are ordered by start, and neither side overlaps itself.
    """
    group: list[tuple[Moment, Moment]] = []
    end = 0.0
    for pair in _close(first, second, milliseconds):
        if group and min(moment.start_seconds for moment in pair) >= end:
            yield _both(group)
            group = []
        end = max(end, *(moment.end_seconds for moment in pair))
        group.append(pair)
    if group:
        yield _both(group)


def overlaps(moment: Moment, others: Iterable[Moment]) -> bool:
    """Whether it shares any time with one of `others`, of the same video. To touch is not to overlap."""
    return any(moment.start_seconds < other.end_seconds and other.start_seconds < moment.end_seconds for other in others)


def _joined(uri: str, hits: Sequence[Hit]) -> Moment:
    if len(hits) == 1:  # as most are, and an answer looks at hundreds
        ((start_ms, end_ms, best_score, label),) = hits
        score = best_score / 10_000
        return Moment(uri, label, start_ms / 1000, end_ms / 1000, score, score, 1)
    best = max(hits, key=_SCORE)
    of_segment: dict[int, int] = {}
    for start_ms, _, score, _ in hits:
        if score >= of_segment.get(start_ms, 0):
            of_segment[start_ms] = score
    return Moment(
        uri=uri,
        label=best.label,
        start_seconds=hits[0].start_ms / 1000,
        end_seconds=max(map(_END, hits)) / 1000,
        score=best.score / 10_000,
        mean_score=sum(of_segment.values()) / (10_000 * len(of_segment)),
        segments=len(of_segment),
    )


def _close(first: Sequence[Moment], second: Sequence[Moment], milliseconds: int) -> list[tuple[Moment, Moment]]:
    """Pairs that are near each other, ordered by their common start."""
    pairs = []
    begin = 0
    for one in first:
        while begin < len(second) and _gap_ms(second[begin], one) > milliseconds:
            begin += 1  # too far behind for this one and all that follow
        for other in second[begin:]:
            if _gap_ms(one, other) > milliseconds:
                break
            pairs.append((one, other))
    return sorted(pairs, key=lambda pair: min(moment.start_seconds for moment in pair))


def _gap_ms(before: Moment, after: Moment) -> int:
    return round(1000 * (after.start_seconds - before.end_seconds))


def _both(pairs: Sequence[tuple[Moment, Moment]]) -> Moment:
    first, second = ({moment.start_seconds: moment for moment in side}.values() for side in zip(*pairs, strict=True))
    one, other = (max(side, key=lambda moment: moment.score) for side in (first, second))
    everything = [*first, *second]
    segments = sum(moment.segments for moment in everything)
    return Moment(
        uri=one.uri,
        label=f"{one.label} + {other.label}",
        start_seconds=min(moment.start_seconds for moment in everything),
        end_seconds=max(moment.end_seconds for moment in everything),
        score=min(one.score, other.score),
        mean_score=sum(moment.mean_score * moment.segments for moment in everything) / segments,
        segments=segments,
    )
