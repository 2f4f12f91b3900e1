"""While somebody types: the labels that the words so far may lead to, known by what else people call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from indexer.search.synonyms import kinetics_synonyms

_LEAST = 2
"""Letters from which there is something to suggest."""


class Suggestion(NamedTuple):
    """A label, and the phrase that means it and has the typed words."""

    label: str
    phrase: str


def suggestions(typed: str, labels: Iterable[str], most: int) -> list[Suggestion]:
    """At most so many of `labels`, in their order, but first those with a phrase that begins as typed.

    Labels whose own names have the typed words are not among them: whoever shows names has these already.
    """
    typed = " ".join(typed.casefold().split())
    if len(typed) < _LEAST:
        return []
    found = []
    for label in labels:
        if typed not in label.casefold():
            matching = [phrase for phrase in _phrases(label) if f" {typed}" in f" {phrase}"]
            if matching:
                found.append(Suggestion(label, min(matching, key=lambda phrase: (not phrase.startswith(typed), len(phrase)))))
    return sorted(found, key=lambda suggestion: not suggestion.phrase.startswith(typed))[:most]


def _phrases(label: str) -> Iterator[str]:
    known = kinetics_synonyms()
    yield from (phrase.casefold() for phrase in known.labels.get(label, ()))
    yield from (phrase.casefold() for phrase, labels in known.general.items() if label in labels)
