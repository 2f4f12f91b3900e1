"""Which labels a few words may mean: those whose phrases share their stems, rare stems before common ones.

    two men wrestling with their arms  ->  wrestl arm  ->  "arm wrestling" has both, "wrestling" and "exercising arm" have one

A stem that no phrase has is looked for under another ending (juggler, juggling), and then as a slip of the keyboard. Of a
label that has only some of the words, something whole must have been said: else it is one to offer, not one to search.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import Stemmer
from rapidfuzz import process
from rapidfuzz.distance import OSA

_SMALL = """
    a an the of on in at to into onto from by for with without and or as his her hers their its it this that these those my
    your our you he she they we me us is are was were be being been have has having do does doing get gets getting who which
    while during some somebody someone something one two three person people man men woman women guy guys boy boys girl girls
    lady ladies kid kids child children video videos clip clips footage scene scenes show showing find very near next then
    there where when after before through around under behind between either both group groups bunch
"""
"""Words that say nothing about an action. Words of place (up, down, off, over) often do."""
_ARTICLES = frozenset(["a", "an", "the"])
_ENDINGS = frozenset(["er", "r", "or", "ist", "ian", "ing", "ion", "ment", "e", "y"])
"""What one word family has after its stem, where the stemmer leaves them apart: skat-er, guitar-ist."""
_SMALL_WORDS = frozenset(_SMALL.split())
_UNKNOWN = "0"
_PLURALS = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"))
_NOT = re.compile(r"\(not [^)]*\)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

_OTHER_FORM, _OTHER_ENDING, _SLIP = 0.9, 0.8, 0.4
"""How much a stem counts that was found as another form of the word (tired, tires), under another ending, or only after
correcting it."""
_OTHER_FORM_ALONE = 0.6
"""And as another form, but no plural, of a word that is all of a phrase: nothing else there says that it is meant."""
_SHORT, _LONG = 4, 7
"""Letters from which a stem is corrected at all, and from which two slips are."""
_ALL_WORDS = 0.3
"""Share of the score that asks for the words of the query in all phrases of a label together, not in one of them."""
_STEP = 0.005
"""How much less each further label of a phrase is meant than the one before it."""
_PHRASE_POWER, _NAME_POWER = 0.75, 0.3
"""How much it costs that a phrase, or the name of a label, says more than the query does."""
_MOST_OF_IT = 0.6
"""Share of the query that one word must be to say something whole (not shoes, in putting on shoes)."""

_LIKELY = 0.6
"""Score from which a label of two words or more is meant, though neither it nor the query is said whole."""

_Stem = tuple[str, str]
"""A stem, and the word that it is of; empty where it was not found by this word itself."""


class Ranked(NamedTuple):
    """A label that has some of the words."""

    label: str
    score: float
    """0 to 1: 1 if a phrase of its is the query."""
    said: bool
    """Whether one of its phrases says all of the query, or the query all of one of its phrases."""


class _Phrase(NamedTuple):
    stems: tuple[str, ...]
    words: frozenset[str]
    labels: tuple[str, ...]
    is_name: bool

    def certainty(self, word: str) -> float:
        """Of a word whose stem it has."""
        if not word or word in self.words:
            return 1.0
        if len(self.stems) > 1:
            return _OTHER_FORM
        return _OTHER_FORM_ALONE if self.words.isdisjoint(_singulars(word)) else 1.0


class PhraseIndex:
    """Phrases and the labels that they mean, the likeliest first. A phrase that is its only label is a name. Built once.

    What is `unsaid` has words of phrases, or words like theirs, but no label says it: labels are offered instead.
    """

    def __init__(
        self, phrases: Iterable[tuple[str, tuple[str, ...]]], unsaid: Iterable[tuple[str, tuple[str, ...]]] = ()
    ) -> None:
        self._stem = Stemmer.Stemmer("english")
        self._phrases: list[_Phrase] = []
        self._whole: dict[str, tuple[str, ...]] = {}
        self._with_stem: dict[str, list[int]] = defaultdict(list)
        self._families: dict[str, str] = {}
        self._joined: dict[str, tuple[str, str]] = {}
        labels: set[str] = set()
        owners: dict[str, set[str]] = defaultdict(set)
        for phrase, meant in phrases:
            words = _words(phrase)
            stems = self._stems_of_phrase(words)
            for name in stems:
                self._with_stem[name].append(len(self._phrases))
                owners[name].update(meant)
            for word in _telling(words):
                self._families.setdefault(self._stem.stemWord(word), self._family(word))
            for first, second in pairwise(words):
                both = (self._stem.stemWord(first), self._stem.stemWord(second))
                self._joined.setdefault(self._stem.stemWord(first + second), both)
            self._phrases.append(_Phrase(stems, frozenset(words), meant, is_name=meant == (phrase,)))
            self._whole.setdefault(_written(phrase), meant)
            labels.update(meant)
        self._unsaid = {" ".join(_without_articles(phrase)): instead for phrase, instead in unsaid}
        # One word that phrases have, too, may be said with others: walking alone is no label, walking the dog is.
        self._unsaid_in = [
            (self._stem.stemWords(phrase.split()), instead)
            for phrase, instead in self._unsaid.items()
            if self._stem.stemWord(phrase) not in self._with_stem
        ]
        self._owners = {name: len(having) for name, having in owners.items()}
        self._worth = {name: math.log(1 + len(labels) / len(having)) for name, having in owners.items()}
        self._unknown_worth = math.log(1 + len(labels) / 2)

    def meant_by(self, query: str) -> list[tuple[str, float]]:
        """The labels, with weights, of the phrase that the query is, or its plural, word by word; none if it is none."""
        labels = _looked_up(self._whole, _written(query).split())
        return [(label, 1 - _STEP * place) for place, label in enumerate(labels)]

    def rank(self, query: str) -> list[Ranked]:
        """Labels that have any of the words, best first."""
        words, _ = self._heard(query)
        terms = self._terms(_telling(words))
        worth = [max((self._worth[name] for name, _ in term), default=self._unknown_worth) for term in terms]
        shares: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(terms))  # phrase -> how well it has each term
        for place, term in enumerate(terms):
            for (name, word), certainty in term.items():
                for number in self._with_stem[name]:
                    certain = certainty * self._phrases[number].certainty(word)
                    shares[number][place] = max(shares[number][place], certain)

        known = {name for term in terms for name, _ in term} | set(_small(words))
        best: dict[str, float] = defaultdict(float)
        together: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(terms))
        said: set[str] = set()
        whole_phrase: set[str] = set()
        for number, share in shares.items():
            phrase = self._phrases[number]
            of_query, of_phrase = _weighed(share, worth), self._share(phrase, known)
            score = of_query * of_phrase ** (_NAME_POWER if phrase.is_name else _PHRASE_POWER)
            for place, label in enumerate(phrase.labels):
                best[label] = max(best[label], score * (1 - _STEP * place))
                together[label] = list(map(max, together[label], share))
            if of_phrase == 1 and max(share) > _SLIP:
                whole_phrase.update(phrase.labels)
            if _says_it(phrase, share, of_query, of_phrase) or (of_phrase == 1 and self._is_of_one_label(phrase, share)):
                said.update(phrase.labels)
        said |= {label for label in whole_phrase if all(together[label])}
        ranked = []
        for label, in_one in best.items():
            score = (1 - _ALL_WORDS) * in_one + _ALL_WORDS * _weighed(together[label], worth)
            ranked.append(Ranked(label, score, label in said or (len(terms) > 1 and score >= _LIKELY)))
        return sorted(ranked, key=lambda one: (-one.score, one.label))

    def instead_of(self, query: str) -> list[str]:
        """The labels to offer for what is unsaid in it."""
        return self._heard(query)[1]

    def _heard(self, query: str) -> tuple[list[str], list[str]]:
        """Its words, what is unsaid as one that nobody knows, and the labels to offer instead of that."""
        words = _without_articles(query)
        telling = _telling(words)
        if " ".join(telling) not in self._whole and (instead := _looked_up(self._unsaid, telling)):
            return [_UNKNOWN], list(instead)
        offered: list[str] = []
        having = self._stem.stemWords(words)
        for stems, instead in self._unsaid_in:
            for start in (place for place in range(len(words)) if having[place : place + len(stems)] == stems):
                words[start : start + len(stems)] = [_UNKNOWN] * len(stems)
                offered += instead
        return words, offered

    def _share(self, phrase: _Phrase, known: set[str]) -> float:
        """Of what the phrase says, how much is in the query; 1 only if all is."""
        if known.issuperset(phrase.stems):
            return 1.0
        return sum(self._worth[name] for name in phrase.stems if name in known) / sum(
            self._worth[name] for name in phrase.stems
        )

    def _is_of_one_label(self, phrase: _Phrase, share: Sequence[float]) -> bool:
        """Whether it is one word that no other label has, and that was said as it is written (ballerina on stage)."""
        return len(phrase.stems) == 1 and self._owners[phrase.stems[0]] == 1 and max(share) >= 1.0

    def _stems_of_phrase(self, words: list[str]) -> tuple[str, ...]:
        """Small words count where there is little else: "in tears" is more than any tears."""
        telling = _telling(words)
        little = [] if len(telling) > 1 else _small(words)
        return tuple(dict.fromkeys([*self._stem.stemWords(telling), *little]))

    def _terms(self, words: Sequence[str]) -> list[dict[_Stem, float]]:
        """The telling words of a query; each as the stems that it may be, and how certainly it is them."""
        terms: list[dict[_Stem, float]] = []
        joined = ["", *self._stem.stemWords([first + second for first, second in pairwise(words)]), ""]
        for word, pairs in zip(words, pairwise(joined), strict=False):
            stems = self._stem.stemWords(_singulars(word))
            stem = next((stem for stem in stems if stem in self._worth), stems[0])
            whole = {(pair, ""): 1.0 for pair in pairs if pair in self._worth}  # skate boarding
            if stem not in self._worth and stem in self._joined:  # armwrestling
                terms += [{(part, ""): 1.0} for part in self._joined[stem] if part in self._worth]
            elif stem in self._worth:
                terms.append({(stem, word): 1.0} | whole)
            else:
                terms.append(whole or self._alternatives(word, stem))
        return terms

    def _alternatives(self, word: str, stem: str) -> dict[_Stem, float]:
        """Of a word whose own stem no phrase has."""
        family = self._family(word)
        found = {(name, ""): _OTHER_ENDING for name, other in self._families.items() if _same_family(family, other)}
        if found or len(stem) < _SHORT:
            return found
        slips = 1 if len(stem) < _LONG else 2
        near = process.extract(stem, list(self._families), scorer=OSA.distance, score_cutoff=slips, limit=3)
        return {(name, ""): _SLIP for name, _, _ in near if name[0] == stem[0]}

    def _family(self, word: str) -> str:
        """Its stem; that of snowy ends in y, as that of cookies does not, though the stemmer makes an i of it."""
        stem: str = self._stem.stemWord(word)
        return f"{stem[:-1]}y" if word.endswith("y") and stem.endswith("i") else stem


def _says_it(phrase: _Phrase, share: Sequence[float], of_query: float, of_phrase: float) -> bool:
    if len(share) == 1:  # one word in the middle of a longer phrase (dressing a wound) may mean something else there
        return share[0] > _SLIP and (of_phrase == 1 or phrase.is_name)
    return all(share) or (of_phrase == 1 and (len(phrase.stems) > 1 or phrase.is_name or of_query >= _MOST_OF_IT))


def _weighed(share: Sequence[float], worth: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(share, worth, strict=True)) / sum(worth)


def _same_family(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= _SHORT and long.startswith(short) and long[len(short) :] in _ENDINGS


def _written(text: str) -> str:
    """The same for texts that differ in letter case, gaps and marks only."""
    return " ".join(_WORD.findall(text.casefold().replace("_", " ").replace("’", "'")))


def _words(text: str) -> list[str]:
    """Lower case words; what a label says that it is not (petting animal (not cat)) is no word of it."""
    return [word.removesuffix("'s") for word in _written(_NOT.sub("", text.casefold())).split()]


def _without_articles(text: str) -> list[str]:
    return [word for word in _words(text) if word not in _ARTICLES]


def _singulars(word: str) -> list[str]:
    """The word, and what it may be the plural of."""
    stripped = [word.removesuffix(end) + instead for end, instead in _PLURALS if word.endswith(end) and word != end]
    return [word, *stripped]


def _looked_up(phrases: Mapping[str, tuple[str, ...]], words: list[str]) -> tuple[str, ...]:
    """What stands there for these words, of which the last may be a plural."""
    forms = [" ".join([*words[:-1], form]) for form in _singulars(words[-1])] if words else []
    return next((phrases[form] for form in forms if form in phrases), ())


def _telling(words: Iterable[str]) -> list[str]:
    return [word for word in words if word not in _SMALL_WORDS]


def _small(words: Iterable[str]) -> list[str]:
    """The small words that may say something, as no stem is written: a person is not personal."""
    return [f"({word})" for word in words if word in _SMALL_WORDS and word not in _ARTICLES]
