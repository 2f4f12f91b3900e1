"""What can be asked, as a tree: an action, perhaps near another one, and what narrows it down.

    arm wrestling near:5s laughing -label:"applauding" path:/srv/archive/2019/ after:2019-06 score:>0.5 dur:>=10s model:r3d_18

`parse.parse` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Operator = Literal[">", ">=", "<", "<="]

KEYS = {
    "label": '"arm wrestling"',
    "near": "5s",
    "path": "/srv/archive/",
    "after": "2019-06",
    "before": "2020",
    "score": ">0.5",
    "dur": ">10s",
    "model": "r3d_18",
}
"""What may stand before a colon, with an example of what stands after it; -label as well."""

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
    positions: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Key -> the character of the text where its last term begins, for complaints."""


def by_label(name: str) -> str:
    """The query for exactly this label."""
    return f"label:{quoted(name)}"


def as_typed(name: str) -> str:
    """The shortest query for a label: its name, where that means nothing else in a query."""
    return name if all(BARE.fullmatch(word) for word in name.split()) else by_label(name)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
