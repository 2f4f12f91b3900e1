"""Hits -> moments: neighbouring segments of one label are one thing to a person.

    hits      [--.91--)[--.88--)          [--.40--)            [--.75--)
    moments   [-------------- score .91 -----------)           [--.75--)      a gap of one segment still belongs

`search` asks SQL; `merge` and `best` are arithmetic.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.search.labels import Hit, label_names, read_hits
from indexer.search.resolve import resolve


class Moment(NamedTuple):
    """[start_seconds, end_seconds) of one video, in which one label was seen."""

    uri: str
    label: str
    start_seconds: float
    end_seconds: float
    score: float
    """Of its best segment, 0 to 1."""
    mean_score: float
    """Of the segments that were hit."""
    segments: int
    """How many were hit."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one query. Without `labels` nothing was searched, and `candidates` are names that were perhaps meant."""

    query: str
    labels: tuple[tuple[str, float], ...]
    """Label and weight."""
    candidates: tuple[str, ...]
    moments: tuple[Moment, ...]
    """Best first."""
    total: int
    """How many moments there are; those beyond the limit are not in `moments`."""

    def as_document(self) -> dict[str, Any]:
        """For JSON: what `search --json` prints."""
        return {
            "query": self.query,
            "labels": [{"label": label, "weight": weight} for label, weight in self.labels],
            "candidates": list(self.candidates),
            "moments": [
                {
                    "uri": moment.uri,
                    "label": moment.label,
                    "start_seconds": moment.start_seconds,
                    "end_seconds": moment.end_seconds,
                    "score": moment.score,
                    "segments": moment.segments,
                }
                for moment in self.moments
            ],
        }


def search(
    engine: Engine,
    query: str,
    recipe_digest: str | None,
    *,
    min_score: float = 0.0,
    under: str | None = None,
    limit: int = 20,
) -> SearchResult:
    """The best `limit` moments, at least one, of the label that `query` names, in the results of this recipe.

    A video that has no results under it (yet) shows those of the recipe that it was indexed with last. `min_score` is 0 to 1;
    it also shapes the moments, as segments below it do not count. `under` is what the uri begins with.
    """
    with reading(engine) as connection:
        resolution = resolve(query, label_names(connection, recipe_digest))
        found = (
            moment
            for label, _ in resolution.labels
            for moment in merge(read_hits(connection, label, recipe_digest, min_score=min_score, under=under), label=label)
        )
        moments, total = best(found, limit)
    return SearchResult(resolution.query, resolution.labels, resolution.candidates, moments, total)


def merge(hits: Iterable[Hit], *, label: str) -> Iterator[Moment]:
    """Join hits of a video whose gap is at most one segment long. The hits of a video come together, ordered by start."""
    of, start, end, highest, total, count = "", 0, 0, 0, 0, 0
    for uri, start_ms, end_ms, score, segment_ms in hits:
        if uri == of and start_ms - end <= segment_ms:
            end = max(end, end_ms)
            highest = max(highest, score)
            total += score
            count += 1
            continue
        if count:
            yield Moment(of, label, start / 1000, end / 1000, highest / 10_000, total / (10_000 * count), count)
        of, start, end, highest, total, count = uri, start_ms, end_ms, score, score, 1
    if count:
        yield Moment(of, label, start / 1000, end / 1000, highest / 10_000, total / (10_000 * count), count)


def best(moments: Iterable[Moment], limit: int) -> tuple[tuple[Moment, ...], int]:
    """The best `limit` moments (1 or more) by score, then uri and start; and how many there are in all.

    Holds only as many as it gives.
    """
    total = 0

    def counted() -> Iterator[Moment]:
        nonlocal total
        for moment in moments:
            total += 1
            yield moment

    chosen = heapq.nsmallest(limit, counted(), key=lambda m: (-m.score, m.uri, m.start_seconds, m.label))
    return tuple(chosen), total
