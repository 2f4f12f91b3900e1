"""Words -> labels. What is searched is always said, and what is not near enough to any label is only offered, never searched.

An exact name is that label, and an everyday phrase for it, word by word, as well; `general` words (football) mean several
labels. Else the words are compared with all of these. What is alike in letters only is a candidate at most. Kissing or hugging
is either, and so is kissing and hugging, if both are known and the whole is no phrase (bow and arrow).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process

from indexer.search.phrases import PhraseIndex
from indexer.search.semantic import Phrases, SentenceModel
from indexer.search.synonyms import kinetics_synonyms

CANDIDATES = 5
MOST_LABELS = 20
"""Words that mean more labels than this (playing) mean none of them in particular."""

_GOOD = 0.35
"""Score of `PhraseIndex` from which the words mean a label, if they say something whole."""
_POOR = 0.15
"""And below which it is not even offered."""
_ALSO = 0.5
"""Share of the best score below which nothing is offered beside labels that are meant."""
_AS_GOOD = 0.9
"""Share of the best score from which another label is meant as well."""
_IS_IT = 0.9
"""Score from which a phrase says just what the words do."""
_NEAR = 70.0
"""Of 100. Names less like the query than this have only letters in common with it (hello world, chopping wood: 50)."""
_BEHIND = 15.0
"""How much less like the query than the nearest name a candidate may be (swimming: not also trimming trees)."""
_ALIKE, _SOMEWHAT_ALIKE = 0.5, 0.3
"""Cosine of sentence embeddings from which the words mean a label, and from which it is offered."""


_OR = re.compile(r"\s+(?:or|and|&)\s+", re.IGNORECASE)
_BETWEEN = re.compile(rf"\s*,\s*(?:(?:or|and|&)\s+)?|{_OR.pattern}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What words mean."""

    words: str
    labels: tuple[tuple[str, float], ...]
    """Label and weight, best first; the first has weight 1. Empty if nothing is near enough."""
    candidates: tuple[str, ...]
    """Further labels that were perhaps meant, nearest first, CANDIDATES at most; none if a name was written exactly."""


def resolve(words: str, names: Iterable[str], semantic: SentenceModel | None = None) -> Resolution:
    """Find the labels, of those called `names`, that `words` mean. What no phrase is near enough to, `semantic` is asked."""
    known = tuple(sorted(set(names)))
    if _OR.search(words) and (parts := _parts(words, known)):
        return _either(words, [_resolve(part, known) for part in parts])
    return _resolve(words, known, semantic)


def _resolve(words: str, known: tuple[str, ...], semantic: SentenceModel | None = None) -> Resolution:
    exact = resolve_name(words, known)
    if exact.labels:
        return exact
    index = _index(known)
    ranked = index.rank(words)
    best = ranked[0].score if ranked else 0.0
    meant = index.meant_by(words)
    if not meant and best >= _GOOD and ranked[0].said:
        meant = [(label, score / best) for label, score, said in ranked if said and score >= _AS_GOOD * best]
    too_general = len(meant) > MOST_LABELS
    poor = max(_POOR, _ALSO * best) if meant and not too_general else _POOR
    near = [label for label, score, _ in ranked if score >= poor]
    near = [*index.instead_of(words), *near] or list(exact.candidates)
    if too_general:
        meant = []
    elif not meant and semantic is not None:
        meant, alike = _by_meaning(words, known, semantic)
        near = [*alike, *near]
    offered = dict.fromkeys(label for label in near if label not in dict(meant))
    return Resolution(words, tuple(meant), tuple(offered)[:CANDIDATES])


def _parts(words: str, known: tuple[str, ...]) -> list[str]:
    """What "or" stands between, if that is more than one thing: brushing teeth or hair -> brushing teeth, brushing hair."""
    parts = [part for part in _BETWEEN.split(words.strip()) if part.strip()]
    if len(parts) < 2 or resolve_name(words, known).labels or _index(known).meant_by(words):
        return []
    first, last = parts[0], parts[-1]
    shared = [
        [f"{first.split()[0]} {part}"] * (part is not first) + [f"{part} {last.split()[-1]}"] * (part is not last)
        for part in parts
    ]
    whole = [
        next((text for text in texts if _is_phrase(text, known)), part) for part, texts in zip(parts, shared, strict=True)
    ]
    if not all(_resolve(part, known).labels for part in whole):
        return []
    return whole if all(_is_phrase(part, known) for part in whole) or not _is_phrase(words, known) else []


def _is_phrase(words: str, known: tuple[str, ...]) -> bool:
    ranked = _index(known).rank(words)
    return bool(ranked) and ranked[0].score >= _IS_IT


def _either(words: str, each: Sequence[Resolution]) -> Resolution:
    labels: dict[str, float] = {}
    for label, weight in (meant for found in each for meant in found.labels):
        labels[label] = max(weight, labels.get(label, 0.0))
    offered = dict.fromkeys(label for found in each for label in found.candidates if label not in labels)
    return Resolution(words, tuple(labels.items()), tuple(offered)[:CANDIDATES])


def resolve_name(name: str, names: Iterable[str]) -> Resolution:
    """Find the label that is called `name`; upper and lower case, underscores and the width of gaps do not matter.

    If labels differ in nothing else, the one that is written as `name` is meant, or else all of them.
    """
    written = {known: plain(known) for known in sorted(set(names))}
    wanted = plain(name)
    exact = [name] if name in written else [known for known, text in written.items() if text == wanted]
    if exact:
        return Resolution(name, tuple((known, 1.0) for known in exact), ())
    nearest = process.extract(wanted, written, scorer=fuzz.WRatio, limit=CANDIDATES, score_cutoff=_NEAR)
    return Resolution(name, (), tuple(known for _, score, known in nearest if score >= nearest[0][1] - _BEHIND))


def _by_meaning(words: str, names: tuple[str, ...], semantic: SentenceModel) -> tuple[list[tuple[str, float]], Sequence[str]]:
    """The labels that the words mean, with weights, and all that are somewhat like them."""
    ranked = semantic.rank(words, _phrases(names))
    best = ranked[0][1] if ranked else 0.0
    meant = [(label, cosine / best) for label, cosine in ranked if best >= _ALIKE and cosine >= _AS_GOOD * best]
    return meant if len(meant) <= MOST_LABELS else [], [label for label, cosine in ranked if cosine >= _SOMEWHAT_ALIKE]


@lru_cache(maxsize=8)
def _index(names: tuple[str, ...]) -> PhraseIndex:
    synonyms = kinetics_synonyms()
    kinetics = {plain(label) for label in synonyms.labels}
    # Other models may have a label for what those of Kinetics do not say.
    unsaid = synonyms.unsaid if all(plain(name) in kinetics for name in names) else {}
    return PhraseIndex(_phrases(names), _with_labels(unsaid, names))


@lru_cache(maxsize=8)
def _phrases(names: tuple[str, ...]) -> Phrases:
    """What each of these labels may be called, and what means several of them."""
    synonyms = kinetics_synonyms()
    own = {plain(label): phrases for label, phrases in synonyms.labels.items()}
    phrases = [(phrase, (name,)) for name in names for phrase in (name, *own.get(plain(name), ()))]
    return (*phrases, *_with_labels(synonyms.general, names))


def _with_labels(several: dict[str, tuple[str, ...]], names: Iterable[str]) -> Phrases:
    """The phrases of which any label is among these names."""
    called: dict[str, list[str]] = defaultdict(list)
    for name in names:
        called[plain(name)].append(name)
    found = []
    for phrase, labels in several.items():
        meant = [name for label in labels for name in called.get(plain(label), ())]
        found += [(phrase, tuple(meant))] if meant else []
    return tuple(found)


@lru_cache(maxsize=4096)
def plain(words: str) -> str:
    """Names that are the same like this are one name to people."""
    return " ".join(words.casefold().replace("_", " ").split())
