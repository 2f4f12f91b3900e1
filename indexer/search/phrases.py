"""Which labels a few words may mean: those whose phrases share their stems, rare stems before common ones.

    two men wrestling with their arms  ->  wrestl arm  ->  "arm wrestling" has both, "wrestling" and "exercising arm" have one

A stem that no phrase has is looked for under another ending (juggler, juggling), and then as a slip of the keyboard.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import Stemmer
from rapidfuzz import process
from rapidfuzz.distance import OSA

_SMALL = """
    a an the of on in at to into onto from by for with without and or as his her hers their its it this that these those my
    your our you he she they we me us is are was were be being been have has having do does doing get gets getting who which
    while during some somebody someone something one two three person people man men woman women guy guys boy boys girl girls
    lady ladies kid kids child children video videos clip clips footage scene scenes show showing find very near next then
    there where when after before through around under behind between
"""
"""Words that say nothing about an action. Words of place (up, down, off, over) often do."""
_ENDINGS = frozenset(["er", "r", "or", "ist", "ian", "ing", "ion", "ment", "e", "i", "y"])
"""What one word family has after its stem, where the stemmer leaves them apart: skat-er, guitar-ist."""
_SMALL_WORDS = frozenset(_SMALL.split())
_NOT = re.compile(r"\(not [^)]*\)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

_OTHER_ENDING, _SLIP = 0.8, 0.4
"""How much a stem counts that was found under another ending, or only after correcting it."""
_SHORT, _LONG = 4, 7
"""Letters from which a stem is corrected at all, and from which two slips are."""
_ALL_WORDS = 0.3
"""Share of the score that asks for the words of the query in all phrases of a label together, not in one of them."""
_STEP = 0.005
"""How much less each further label of a phrase is meant than the one before it."""
_PHRASE_POWER = 0.75
"""How much it costs that a phrase says more than the query does."""


class PhraseIndex:
    """Phrases and the labels that they mean, the likeliest first. Built once, asked often."""

    def __init__(self, phrases: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self._phrases: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._with_stem: dict[str, list[int]] = defaultdict(list)
        self._joined: dict[str, tuple[str, str]] = {}
        labels: set[str] = set()
        owners: dict[str, set[str]] = defaultdict(set)
        stem = Stemmer.Stemmer("english")
        for phrase, meant in phrases:
            words = _words(phrase)
            stems = tuple(dict.fromkeys(stem.stemWords(_telling(words))))
            for name in stems:
                self._with_stem[name].append(len(self._phrases))
                owners[name].update(meant)
            for first, second in pairwise(words):
                self._joined.setdefault(stem.stemWord(first + second), (stem.stemWord(first), stem.stemWord(second)))
            self._phrases.append((stems, meant))
            labels.update(meant)
        self._stem = stem
        self._worth = {name: math.log(1 + len(labels) / len(having)) for name, having in owners.items()}
        self._unknown_worth = math.log(1 + len(labels) / 2)

    def rank(self, query: str) -> list[tuple[str, float]]:
        """Labels that have any of the words, best first, with a score from 0 to 1: 1 if a phrase is the query."""
        terms = self._terms(query)
        worth = [max((self._worth[name] for name in term), default=self._unknown_worth) for term in terms]
        shares: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(terms))  # phrase -> how well it has each term
        for place, term in enumerate(terms):
            for name, certainty in term.items():
                for number in self._with_stem[name]:
                    shares[number][place] = max(shares[number][place], certainty)

        known = {name for term in terms for name in term}
        best: dict[str, float] = defaultdict(float)
        together: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(terms))
        for number, share in shares.items():
            stems, labels = self._phrases[number]
            of_phrase = sum(self._worth[name] for name in stems if name in known) / sum(self._worth[name] for name in stems)
            score = _weighed(share, worth) * of_phrase**_PHRASE_POWER
            for place, label in enumerate(labels):
                best[label] = max(best[label], score * (1 - _STEP * place))
                together[label] = list(map(max, together[label], share))
        scores = {
            label: (1 - _ALL_WORDS) * score + _ALL_WORDS * _weighed(together[label], worth) for label, score in best.items()
        }
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))

    def _terms(self, query: str) -> list[dict[str, float]]:
        """The telling words of the query; each as the stems that it may be, and how certainly it is them."""
        terms: list[dict[str, float]] = []
        words = _telling(_words(query))
        joined = ["", *self._stem.stemWords([first + second for first, second in pairwise(words)]), ""]
        for word, pairs in zip(words, pairwise(joined), strict=False):
            stem = self._stem.stemWord(word)
            whole = dict.fromkeys((pair for pair in pairs if pair in self._worth), 1.0)  # skate boarding
            if stem not in self._worth and stem in self._joined:  # armwrestling
                terms += [{part: 1.0} for part in self._joined[stem] if part in self._worth]
            elif whole and stem not in self._worth:
                terms.append(whole)
            else:
                terms.append(self._alternatives(stem) | whole)
        return terms

    def _alternatives(self, stem: str) -> dict[str, float]:
        found = {name: _OTHER_ENDING for name in self._worth if _same_family(name, stem)}
        if stem in self._worth:
            found[stem] = 1.0
        elif not found and len(stem) >= _SHORT:
            slips = 1 if len(stem) < _LONG else 2
            near = process.extract(stem, list(self._worth), scorer=OSA.distance, score_cutoff=slips, limit=3)
            found = {name: _SLIP for name, _, _ in near if name[0] == stem[0]}
        return found


def _weighed(share: list[float], worth: list[float]) -> float:
    return sum(a * b for a, b in zip(share, worth, strict=True)) / sum(worth)


def _same_family(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= _SHORT and long.startswith(short) and long[len(short) :] in _ENDINGS


def _words(text: str) -> list[str]:
    """Lower case words; what a label says that it is not (petting animal (not cat)) is no word of it."""
    plain = _NOT.sub("", text.casefold().replace("_", " ").replace("’", "'"))
    return [word.removesuffix("'s") for word in _WORD.findall(plain)]


def _telling(words: list[str]) -> list[str]:
    return [word for word in words if word not in _SMALL_WORDS] or words
