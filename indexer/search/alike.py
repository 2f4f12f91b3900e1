"""Segments that are near to an example -> moments, for one video. All of it is arithmetic.

    segments   .52  .93  .97  .95  .60  .58     A moment is what lies around a best segment and is about as near as that one.
    moments    [.5) [---- .97 ----)[-- .6 -)    Every segment that counts is in exactly one.

What "about" means differs from model to model: one gives unlike things a cosine of 0.3, another of 0.99. So it is measured
from what is ordinary, the middle of all segments that were compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from indexer.search.moments import Moment

ALIKE = 0.25
"""Of the way from a best segment down to the ordinary ones is still alike."""


class NearSegment(NamedTuple):
    """One segment of a video, compared with the example."""

    start_ms: int
    end_ms: int
    cosine: float
    label: str


def least_alike(peak: float, ordinary: float) -> float:
    """The cosine that a segment needs to be alike to a best one. Grows with `peak`, and is never above it."""
    return peak - ALIKE * max(0.0, peak - ordinary)


def alike_moments(
    uri: str, segments: Sequence[NearSegment], *, ordinary: float, least_peak: float, segment_ms: int
) -> Iterator[Moment]:
    """The moments of segments that are ordered by start, whose best segment is at least `least_peak`; the best moment first.

    As in a search, a gap of one segment, of `segment_ms`, still belongs.
    """
    taken = [False] * len(segments)
    for peak in sorted(range(len(segments)), key=lambda at: -segments[at].cosine):
        if segments[peak].cosine < least_peak:
            return
        if taken[peak]:
            continue
        least = least_alike(segments[peak].cosine, ordinary)
        first, last = (_reach(segments, taken, peak, step, least, segment_ms) for step in (-1, 1))
        taken[first : last + 1] = [True] * (last + 1 - first)
        yield _joined(uri, segments[peak], [near for near in segments[first : last + 1] if near.cosine >= least])


def _reach(segments: Sequence[NearSegment], taken: Sequence[bool], peak: int, step: int, least: float, segment_ms: int) -> int:
    """The last segment that belongs to the peak, in one direction."""
    reached, at = peak, peak + step
    while 0 <= at < len(segments) and not taken[at]:
        before, after = (reached, at) if step > 0 else (at, reached)
        if segments[after].start_ms - segments[before].end_ms > segment_ms:
            break
        if segments[at].cosine >= least:
            reached = at
        at += step
    return reached


def _joined(uri: str, best: NearSegment, segments: Sequence[NearSegment]) -> Moment:
    mean = sum(near.cosine for near in segments) / len(segments)
    return Moment(
        uri=uri,
        label=best.label,
        start_seconds=segments[0].start_ms / 1000,
        end_seconds=max(near.end_ms for near in segments) / 1000,
        score=min(1.0, round(best.cosine, 6)),  # rounding to float16 may leave a bit more than 1
        mean_score=min(1.0, round(mean, 6)),
        segments=len(segments),
    )
