"""What can be asked, as a tree: an action, perhaps near another one, and what narrows it down.

    arm wrestling near:5s laughing -label:"applauding" path:/srv/archive/2019/ after:2019-06 score:>0.5 dur:>=10s model:r3d_18

`parse.parse` reads it, `render` writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import Literal

Operator = Literal[">", ">=", "<", "<="]

KEYS = ("label", "near", "path", "after", "before", "score", "dur", "model")
"""What may stand before a colon; -label as well."""

BARE = re.compile(r'(?!-)[^\s":]+|-+')
"""A word that needs no quotes."""


@dataclass(frozen=True, slots=True)
class Action:
    """Any of the labels that the words mean together, and of those that are named."""

    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Near:
    """A second action, and how far from the first it may be: the gap between their moments, 0 if they touch or overlap."""

    milliseconds: int
    action: Action


@dataclass(frozen=True, slots=True)
class Limit:
    """What a value must be, compared with a number: a share from 0 to 1 for scores, milliseconds for durations."""

    operator: Operator
    number: float

    def allows(self, value: float) -> bool:
        match self.operator:
            case ">":
                return value > self.number
            case ">=":
                return value >= self.number
            case "<":
                return value < self.number
            case "<=":
                return value <= self.number


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Whatever is given must hold; an action is always given."""

    action: Action
    near: Near | None = None
    without: tuple[str, ...] = ()
    """Labels; a moment that overlaps one of theirs does not count."""
    path: str | None = None
    after: datetime | None = None
    """Local time; the moment itself is after it, and not before it."""
    before: datetime | None = None
    score: tuple[Limit, ...] = ()
    """Of a moment, 0 to 1."""
    dur: tuple[Limit, ...] = ()
    """Length of a moment in milliseconds."""
    model: str | None = None


def render(query: Query) -> str:
    """The text that `parse` reads as `query`."""
    terms = _action(query.action)
    if query.near is not None:
        terms += [f"near:{query.near.milliseconds}ms", *_action(query.near.action)]
    terms += [f"-label:{_quoted(label)}" for label in query.without]
    if query.path is not None:
        terms.append(f"path:{_quoted(query.path)}")
    if query.after is not None:
        terms.append(f"after:{_date(query.after)}")
    if query.before is not None:
        terms.append(f"before:{_date(query.before)}")
    terms += [f"score:{limit.operator}{limit.number!r}" for limit in query.score]
    terms += [f"dur:{limit.operator}{limit.number:.0f}ms" for limit in query.dur]
    if query.model is not None:
        terms.append(f"model:{_quoted(query.model)}")
    return " ".join(terms)


def _action(action: Action) -> list[str]:
    words = [word if BARE.fullmatch(word) else _quoted(word) for word in action.words]
    return words + [f"label:{_quoted(label)}" for label in action.labels]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _date(moment: datetime) -> str:
    return moment.date().isoformat() if moment.time() == time.min else moment.isoformat()
