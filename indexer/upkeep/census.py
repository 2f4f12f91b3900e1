"""All hits of the catalog in one pass: how many each live result has, and what they are, in sixteen bytes a result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from indexer.catalog import audit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)), (31, None))


@dataclass(frozen=True, slots=True)
class Census:
    """What there is."""

    keys: NDArray[np.int64]
    """Of all live results, in order: see `_keys`."""
    hits: NDArray[np.int64]
    sums: NDArray[np.uint64]
    """Of the fingerprints of their hits: equal hits in any order have equal sums."""
    stray: set[tuple[int, int]]
    """(recipe id, video id) of hits without a live result."""
    counts: audit.Counts

    def of(self, recipe_id: int, video_id: int) -> tuple[int, np.uint64]:
        """How many hits a live result has, and their sum."""
        place = int(np.searchsorted(self.keys, _keys(np.array([recipe_id]), np.array([video_id])))[0])
        return int(self.hits[place]), self.sums[place]


def take_census(connection: Connection) -> Census:
    """Read all hits, in one pass."""
    live = audit.live_keys(connection)
    keys = np.sort(_keys(live[:, 0], live[:, 1]))
    hits, sums = np.zeros(len(keys) + 1, np.int64), np.zeros(len(keys) + 1, np.uint64)  # the last one: of no result
    stray: set[tuple[int, int]] = set()
    counts: Counter[tuple[int, int, int]] = Counter()
    for some in audit.hits(connection):
        recipe, label, video, start_ms, end_ms, score = some.T
        wanted = _keys(recipe, video)
        place = np.searchsorted(keys, wanted)
        lost = np.append(keys, -1)[place] != wanted
        place[lost] = len(keys)
        np.add.at(hits, place, 1)
        np.add.at(sums, place, fingerprints(label, start_ms, end_ms, score))
        stray |= {(int(one[0]), int(one[2])) for one in some[lost]}
        kinds, numbers = np.unique(np.stack([recipe, label, np.minimum(score // 1000, 9)]), axis=1, return_counts=True)
        counts.update({(int(a), int(b), int(c)): int(n) for (a, b, c), n in zip(kinds.T, numbers, strict=True)})
    return Census(keys, hits, sums, stray, counts)


def fingerprints(*columns: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[n], one number for each row of [n] numbers in each column: other rows have other ones, but for a chance of 2^-64."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            mixed = (mixed ^ column.astype(np.uint64)) + _GOLDEN
            for shift, factor in _MIX:  # splitmix64
                mixed ^= mixed >> np.uint64(shift)
                if factor is not None:
                    mixed *= factor
    return mixed


def _keys(recipe_ids: NDArray[np.int64], video_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each recipe and video."""
    return (recipe_ids << 32) | video_ids
