"""A video at a glance: which labels were seen when, and which time nobody looked at. All of it is arithmetic.

    yoga        ////[##    #########]///[##   ]     # seen    (nothing) analysed    / not analysed
    archery     ////[      ####     ]///[     ]

Places are per mille of the video's length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from indexer.serve.archive import ShownSegment

CELLS = 500
"""No lane has more: those of a long video show the best of several segments."""
LANES = 8


class Cell(NamedTuple):
    """A stretch of one lane in which a label scores about the same."""

    start_ms: int
    end_ms: int
    score: float
    place: float
    width: float


class Lane(NamedTuple):
    label: str
    searched: bool
    cells: tuple[Cell, ...]


class Strip(NamedTuple):
    lanes: tuple[Lane, ...]
    analysed: tuple[tuple[float, float], ...]
    """(place, width) of the time that has results."""
    missing_ms: int
    """How much of the video has none."""
    more: int
    """Labels that have no lane."""


def strip(segments: Sequence[ShownSegment], duration_ms: int, searched: Iterable[str]) -> Strip:
    """`segments` are ordered by start and do not overlap. Searched labels come first, then those with the highest scores."""
    length = max(duration_ms, segments[-1].end_ms if segments else 1, 1)
    spans = _joined([(segment.start_ms, segment.end_ms) for segment in segments])
    sums: dict[str, float] = defaultdict(float)
    for segment in segments:
        for label, score in segment.scores.items():
            sums[label] += score
    first = [label for label in searched if label in sums]
    ranked = first + sorted(sums.keys() - set(first), key=lambda label: (-sums[label], label))
    lanes = tuple(Lane(label, label in first, _cells(segments, label, length)) for label in ranked[:LANES])
    covered = sum(end - start for start, end in spans)
    return Strip(
        lanes=lanes,
        analysed=tuple((1000 * start / length, 1000 * (end - start) / length) for start, end in spans),
        missing_ms=length - covered,
        more=max(0, len(ranked) - LANES),
    )


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and joined[-1][1] >= start:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _cells(segments: Sequence[ShownSegment], label: str, length: int) -> tuple[Cell, ...]:
    least_ms = length / CELLS
    cells: list[tuple[int, int, float]] = []
    for segment in segments:
        score = segment.scores.get(label)
        if score is None:
            continue
        if cells:
            start, end, before = cells[-1]
            narrow = end - start < least_ms and segment.start_ms - end < least_ms
            if narrow or (segment.start_ms == end and round(10 * score) == round(10 * before)):
                cells[-1] = start, segment.end_ms, max(score, before)
                continue
        cells.append((segment.start_ms, segment.end_ms, score))
    return tuple(Cell(start, end, score, 1000 * start / length, 1000 * (end - start) / length) for start, end, score in cells)
