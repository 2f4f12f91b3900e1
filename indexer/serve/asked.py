"""What the address of a page asks for, and the addresses of its neighbours: all state of the page is in its address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, get_args
from urllib.parse import urlencode

from indexer.errors import ConfigError
from indexer.quantities import share
from indexer.search import Sort

SHOWN, MOST = 24, 960
"""Moments of a first page, and of the longest one: what is beyond is found by asking for less."""
_SORTS: tuple[Sort, ...] = get_args(Sort)
_EXAMPLE = re.compile(r"([0-9]{1,9}):([0-9]{1,10})-([0-9]{1,10})")


class Example(NamedTuple):
    """A moment to find the like of: VIDEO_ID:START_MS-END_MS in an address."""

    video_id: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One search, as its address says it."""

    q: str = ""
    min_score: float = 0.0
    sort: Sort = "best"
    under: str = ""
    """What the uri begins with; empty: anything."""
    like: str = ""
    """An Example, where `q` is empty."""
    limit: int = SHOWN

    @property
    def is_search(self) -> bool:
        return bool(self.q or self.like)

    @property
    def example(self) -> Example | None:
        """Raises ConfigError."""
        if not self.like:
            return None
        found = _EXAMPLE.fullmatch(self.like)
        if found is None or int(found[2]) >= int(found[3]):
            raise ConfigError(f"like: {self.like[:40]!r} is no moment; it is written VIDEO:START-END, both in milliseconds")
        return Example(*map(int, found.groups()))

    def with_(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def state(self) -> dict[str, str]:
        """What differs from the usual, as an address says it."""
        usual = Asked()
        names = ("q", "like", "min_score", "sort", "under", "limit")
        return {name: _word(getattr(self, name)) for name in names if getattr(self, name) != getattr(usual, name)}

    def link(self, path: str = "/", **more: object) -> str:
        """The address of `path` for this search. What is as usual is left out; `more` comes first."""
        words = {name: _word(value) for name, value in more.items()} | self.state()
        return f"{path}?{urlencode(words)}" if words else path


def asked_by(parameters: Mapping[str, str]) -> Asked:
    """Raises ConfigError with a sentence for a value that cannot be meant."""
    q, like, sort, limit = (parameters.get(name, "").strip() for name in ("q", "like", "sort", "limit"))
    under = parameters.get("under", "")
    if "\0" in under:
        raise ConfigError("under: no path has a zero byte in it")
    try:
        min_score = share(parameters.get("min_score", "").strip() or "0")
    except ValueError as error:
        raise ConfigError(f"min_score: {error}") from None
    found = next((known for known in _SORTS if known == (sort or "best")), None)
    if found is None:
        raise ConfigError(f"sort: {sort!r} is not known; allowed: {', '.join(_SORTS)}")
    if limit and not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
        raise ConfigError(f"limit: {limit!r} is not a number from 1 to {MOST}")
    asked = Asked(q, min_score, found, under, "" if q else like, min(int(limit or SHOWN), MOST))
    _ = asked.example  # says what is wrong with it
    return asked


def _word(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
