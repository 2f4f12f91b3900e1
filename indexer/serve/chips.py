"""The filters of a search, each with the search that it is without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from indexer.errors import QueryError
from indexer.search.parse import Term, parse, terms
from indexer.serve.asked import SHOWN, Asked

_OF_ACTIONS = ("", "label")


class Chip(NamedTuple):
    """One filter."""

    text: str
    without: str
    """The address of the search without it."""


def chips(asked: Asked, *, readable: bool = True) -> list[Chip]:
    """In the order in which they are written; of a query that is not `readable`, none of those in it."""
    found = []
    for text, rest in _of_query(asked.q) if readable else ():
        try:
            parse(rest)
        except QueryError:
            continue  # nothing to look for would be left
        found.append(Chip(text, asked.with_(q=rest, limit=SHOWN).link()))
    if asked.min_score:
        found.append(Chip(f"score at least {asked.min_score:g}", asked.with_(min_score=0.0, limit=SHOWN).link()))
    if asked.under:
        found.append(Chip(f"in {asked.under}", asked.with_(under="", limit=SHOWN).link()))
    return found


def _of_query(q: str) -> Iterator[tuple[str, str]]:
    """Each filter as it is written, and the query without it. near: takes the action after it along."""
    written = list(terms(q))
    for place, term in enumerate(written):
        gone = [term]
        if term.key == "near":
            gone += [later for later in written[place + 1 :] if later.key in _OF_ACTIONS]
        if term.key:
            yield _text(q, gone), _text(q, [kept for kept in written if kept not in gone])


def _text(q: str, some: list[Term]) -> str:
    return " ".join(q[term.start : term.end] for term in some)
