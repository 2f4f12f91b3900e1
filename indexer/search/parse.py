"""The text of a query -> its tree. Every complaint points at the character where the text stops making sense.

A query is words and terms in any order. A term is KEY:VALUE without a space; quotes keep a value, or a word, together, and \\
keeps the quote or backslash after it. near: stands between two actions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from indexer.errors import QueryError
from indexer.quantities import duration_seconds, share
from indexer.search.query import BARE, KEYS, Action, Limit, Near, Operator, Query

LONGEST = 1000
"""Characters."""
_LONGEST_NEAR, _LONGEST_DUR = "1h", "10d"

_KEY = re.compile(r"(-?)([^\W\d]\w*):")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r'[^\s"]+')
_OPERATOR = re.compile(r"[<>]=?|")
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?)?)?")
_YEARS = range(1900, 9999)
_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, and what stands for bytes that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class _Token:
    position: int
    key: str
    """Empty for a word; -label for a label that is left out."""
    value: str
    value_position: int
    quoted: bool
    end: int


def parse(text: str) -> Query:
    """Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError(text, LONGEST, f"a query has at most {LONGEST} characters")
    if found := _UNSPEAKABLE.search(text):
        raise QueryError(text, found.start(), "this is no character; no database takes it")
    actions = [Action()]
    near_ms: int | None = None
    rest: dict[str, Any] = {}
    positions: dict[str, int] = {}
    for token in _tokens(text):
        positions[token.key] = token.position
        match token.key:
            case "":
                actions[-1] = replace(actions[-1], words=(*actions[-1].words, token.value))
            case "label":
                actions[-1] = replace(actions[-1], labels=(*actions[-1].labels, token.value))
            case "near":
                if near_ms is not None:
                    raise QueryError(text, token.position, "near: joins two actions, not three")
                if actions == [Action()]:
                    raise QueryError(text, token.position, "near: stands between two actions: write one before it")
                near_ms = _milliseconds(text, token.value, token.value_position, most=_LONGEST_NEAR)
                actions.append(Action())
            case "-label":
                rest["without"] = (*rest.get("without", ()), token.value)
            case "score" | "dur":
                rest[token.key] = (*rest.get(token.key, ()), _limit(text, token))
            case key:
                if key in rest:
                    raise QueryError(text, token.position, f"{key}: is there twice; write one")
                rest[key] = _date(text, token) if key in ("after", "before") else token.value
    if actions[-1] == Action():
        where = "" if near_ms is None else " after near:"
        raise QueryError(text, len(text), f'write an action{where}, in words (arm wrestling) or as label:"arm wrestling"')
    return Query(actions[0], None if near_ms is None else Near(near_ms, actions[1]), **rest, positions=positions)


class Term(NamedTuple):
    """Where a word or a KEY:VALUE of a query stands."""

    key: str
    """Empty for a word; -label for a label that is left out."""
    start: int
    end: int


def terms(text: str) -> Iterator[Term]:
    """Those of a query, in their order. Raises QueryError."""
    return (Term(token.key, token.position, token.end) for token in _tokens(text))


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        start, key = position, ""
        if found := _KEY.match(text, position):
            key = _known_key(text, found)
            position = found.end()
        value_position, quoted = position, text[position : position + 1] == '"'
        if quoted and (found := _QUOTED.match(text, position)):
            value = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)
        elif quoted:
            raise QueryError(text, position, "this quote is not closed")
        elif found := _PLAIN.match(text, position):
            value = found[0]
        else:
            such_as = f"{key}:{KEYS[key.lstrip('-')]}"
            raise QueryError(text, position, f"{key}: needs a value right after the colon, such as {such_as}")
        if not value.strip():
            raise QueryError(text, value_position, "there is nothing between the quotes")
        if not key and not quoted and not BARE.fullmatch(value):
            _refuse_word(text, start, value)
        position = found.end()
        yield _Token(start, key, value, value_position, quoted, position)


def _known_key(text: str, found: re.Match[str]) -> str:
    minus, key = found[1], found[2].lower()
    if key not in KEYS:
        allowed = ", ".join(f"{known}:" for known in KEYS)
        problem = f"{found[2]}: is not known; allowed: {allowed}; a word with a colon needs quotes"
        raise QueryError(text, found.start(2), problem)
    if minus and key != "label":
        raise QueryError(text, found.start(), f"only a label can be left out: -label:, not -{key}:")
    return minus + key


def _refuse_word(text: str, start: int, value: str) -> NoReturn:
    if value.startswith("-"):
        problem = f'to leave a label out, write -label:"{value.lstrip("-")}"; a word that begins with a dash needs quotes'
        raise QueryError(text, start, problem)
    raise QueryError(text, start + value.index(":"), "a word with a colon needs quotes")


def _limit(text: str, token: _Token) -> Limit:
    found = _OPERATOR.match(token.value)
    assert found is not None  # it matches nothing, too
    operator: Operator = found[0] or ">="  # type: ignore[assignment]  # the pattern has no others
    value, position = token.value[found.end() :], token.value_position + found.end() + token.quoted
    if token.key == "dur":
        return Limit(operator, _milliseconds(text, value, position, most=_LONGEST_DUR))
    try:
        return Limit(operator, round(share(value), 6))
    except ValueError as error:
        raise QueryError(text, min(position, len(text)), f"score: {error}") from None


def _milliseconds(text: str, value: str, position: int, *, most: str) -> int:
    try:
        return round(1000 * duration_seconds(value, least="0s", most=most))
    except ValueError as error:
        raise QueryError(text, min(position, len(text)), str(error)) from None


def _date(text: str, token: _Token) -> datetime:
    if _DATE.fullmatch(token.value):
        year, *others = token.value.split("-", 2)
        whole = "-".join([year, *others, *["01"] * (2 - len(others))])
        try:
            if int(year) in _YEARS:
                return datetime.fromisoformat(whole)
        except ValueError:
            pass
    problem = f"{token.key}: {token.value!r} is no date; write 2019, 2019-06, 2019-06-01 or 2019-06-01T18:00"
    raise QueryError(text, token.value_position, problem)
