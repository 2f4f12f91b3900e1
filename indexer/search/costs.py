"""Which way to the moments reads least, from what is known before anything is read.

The unit is one hit that is read and becomes part of a moment, some microseconds (python -m benchmarks catalog).
"""

from __future__ import annotations

import math

HIT_COST = 1.5
"""To read a hit and sort its video in, against asking one video for such hits."""
VIDEO_COST = 5
"""To look at a video: for its results, and what is known of it."""
MOST_VIDEOS = 4_000
"""Allowed videos that are counted. More are never all looked at for the best moments of a common label."""
_MARGIN = 1.3
_NEAR_IS_RARE = 20
"""So many videos with an action are looked at until another one is near it: a guess."""


def hits_are_fewer(hits: int, looked_at: float) -> bool:
    """Whether videos are found faster through all hits of a label than by asking so many of them for it."""
    return hits * HIT_COST < looked_at


def looked_at(limit: int, *, hits: int, indexed: int, allowed: int, near: bool) -> float:
    """How many videos have so many moments, if hits are spread evenly; `near`: only those with another action close by."""
    return min(allowed, limit * indexed / max(hits, 1) * (_NEAR_IS_RARE if near else 1))


def videos_of(limit: int, *, hits: int, indexed: int, most: int) -> int:
    """How many videos with hits have a few moments more than `limit`; one at least, `most` at most."""
    return max(1, min(most, math.ceil(_MARGIN * limit / max(1, hits / max(indexed, 1)))))


def all_are_fewer(limit: int, *, hits: int, strong: int, indexed: int, allowed: int) -> bool:
    """Whether to look at all `allowed` videos, not through the best hits of all videos until enough are in allowed ones.

    `strong` of the `hits` are in the index by score; to find the best of others, all must be sorted.
    """
    if allowed >= MOST_VIDEOS:
        return False
    best = 2 * limit * indexed / max(allowed, 1)
    return allowed * (VIDEO_COST + hits / max(indexed, 1)) < best + (hits if strong < best else 0)
