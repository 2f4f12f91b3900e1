"""While somebody types: the labels that the words so far may lead to, known by what else people call them.

yoga near:5s foot   ->   massaging feet (foot massage)   ->   yoga near:5s massaging feet
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from indexer.search.query import as_typed, by_label
from indexer.search.resolve import plain
from indexer.search.synonyms import kinetics_synonyms

_LEAST = 2
"""Letters from which there is something to suggest."""
_TERM = re.compile(
    r'(?P<key>-?[^\W\d]\w*:)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?P<closed>"?)|(?P<plain>[^\s"]+))',
    re.DOTALL,
)


class Suggestion(NamedTuple):
    """A label, and the phrase that means it and has the typed words."""

    label: str
    phrase: str


class _Typed(NamedTuple):
    """The end of a query, which is still being written."""

    before: str
    """What stays as it is: a whole query so far, and the minus of -label:."""
    words: str
    as_label: bool
    """Whether it is the value of label:, and not words."""


def suggestions(typed: str, labels: Iterable[str], most: int) -> list[Suggestion]:
    """At most so many of `labels`, in their order, but first those with a phrase that begins as the words typed last.

    Labels whose own names have all that was typed are not among them: whoever shows names has these already.
    """
    last = _last(typed)
    words = plain(last.words)
    if len(words) < _LEAST:
        return []
    alone = words == plain(typed)
    found = []
    for label in labels:
        name = plain(label)
        if not (alone and words in name):
            matching = [phrase for phrase in _phrases(name, with_name=not alone) if f" {words}" in f" {phrase}"]
            if matching:
                found.append(Suggestion(label, min(matching, key=lambda phrase: (not phrase.startswith(words), len(phrase)))))
    return sorted(found, key=lambda suggestion: not suggestion.phrase.startswith(words))[:most]


def completed(typed: str, label: str) -> str:
    """The query that was typed, with this label in the place of the words typed last."""
    last = _last(typed)
    return last.before + (by_label(label) if last.as_label else as_typed(label))


def _last(typed: str) -> _Typed:
    """Words end at a term, which ends where it is closed or a space follows; nothing is left of one with another key."""
    begin = 0
    for term in _TERM.finditer(typed):
        key = (term["key"] or "").lower()
        if not key and term["quoted"] is None:
            continue  # a word
        begin = term.end()
        unfinished = begin == len(typed) and not term["closed"]
        if unfinished and key.lstrip("-") in ("label:", ""):
            minus = typed[term.start()] == "-"
            return _Typed(typed[: term.start() + minus], term["quoted"] or term["plain"] or "", as_label=bool(key))
    words = typed[begin:].lstrip()
    return _Typed(typed[: len(typed) - len(words)], words, as_label=False)


def _phrases(name: str, *, with_name: bool) -> Iterator[str]:
    if with_name:
        yield name
    yield from _known().get(name, ())


@lru_cache(maxsize=1)
def _known() -> Mapping[str, tuple[str, ...]]:
    """Name of a label, as `plain` writes it -> what else people call it."""
    synonyms = kinetics_synonyms()
    called: dict[str, list[str]] = defaultdict(list)
    for label, phrases in synonyms.labels.items():
        called[plain(label)] += [phrase.casefold() for phrase in phrases]
    for phrase, labels in synonyms.general.items():
        for label in labels:
            called[plain(label)].append(phrase.casefold())
    return {label: tuple(phrases) for label, phrases in called.items()}
