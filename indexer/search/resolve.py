"""Words -> labels. Never a guess: what is not the name of a label is answered with names that were perhaps meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz import fuzz, process

CANDIDATES = 5
_NEAR = 70.0
"""Of 100. Names less like the query than this have only letters in common with it (hello world, chopping wood: 50)."""
_BEHIND = 15.0
"""How much less like the query than the nearest name a candidate may be (swimming: not also trimming trees)."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a query means. Either list may be empty, but there are candidates only if there are no labels."""

    query: str
    labels: tuple[tuple[str, float], ...]
    """Label and weight, 0 to 1."""
    candidates: tuple[str, ...]
    """Nearest first, CANDIDATES at most."""


def resolve(query: str, names: Iterable[str]) -> Resolution:
    """Find the label that is called `query`; upper and lower case, underscores and the width of gaps do not matter.

    If labels differ in nothing else, the one that is written as the query is meant, or else all of them.
    """
    plain = {name: _plain(name) for name in sorted(set(names))}
    wanted = _plain(query)
    exact = [query] if query in plain else [name for name, words in plain.items() if words == wanted]
    if exact:
        return Resolution(query, tuple((name, 1.0) for name in exact), ())
    nearest = process.extract(wanted, plain, scorer=fuzz.WRatio, limit=CANDIDATES, score_cutoff=_NEAR)
    return Resolution(query, (), tuple(name for _, score, name in nearest if score >= nearest[0][1] - _BEHIND))


def _plain(words: str) -> str:
    return " ".join(words.casefold().replace("_", " ").split())
