"""Cron expressions: what a job file may say, when that is, and what its fields mean.

Only what cron, systemd and Kubernetes all understand in the same way is allowed, so that a job can move between them. Daylight
saving follows Debian's cron: a time that a clock change leaves out is made up for at once, one that it repeats happens once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from indexer.fields import did_you_mean
from indexer.quantities import shown

CRON_TEXT = r"[^ @]+( +[^ ]+){4}"
ZONE_TEXT = r"[A-Za-z][A-Za-z0-9_+/\-]*"
_MACROS = {
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    **{"@hourly": "0 * * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"},
}
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_EXAMPLE = "write for example 15 1 * * * for every night at 01:15"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()

    def complaint(self, text: str) -> str | None:
        """What is wrong with this field of an expression; None if nothing is."""
        for term in text.upper().split(","):
            span, slash, step = term.partition("/")
            first, dash, last = span.partition("-")
            ends = [] if span == "*" else [first, last] if dash else [first]
            for end in ends:
                if end not in self.words and not (re.fullmatch("[0-9]{1,2}", end) and self.least <= int(end) <= self.most):
                    question = did_you_mean(end[:3], self.words)
                    words = f" or {self.words[0]} to {self.words[-1]}" if self.words else ""
                    return (
                        f"{end.lower() or 'an empty item'} is not possible for the {self.name}; {question}"
                        f"allowed: {self.least} to {self.most}{words}"
                    )
            if slash and not re.fullmatch("0*[1-9][0-9]?", step):
                return f"/{step} is not a step for the {self.name}; write for example */2"
            if slash and len(ends) == 1:
                return f"{term.lower()} is read differently by different programs; write {first.lower()}-{self.most}/{step}"
            if dash and self._number(first) > self._number(last):
                return f"{term.lower()} is the wrong way round for the {self.name}; write two ranges, with a comma"
        return None

    def _number(self, text: str) -> int:
        return self.words.index(text) + (self.least if self.words is _MONTHS else 0) if text in self.words else int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Times:
    """The fields of an expression as sorted numbers; None where every value is meant. Sunday is 0."""

    minutes: Sequence[int] | None
    hours: Sequence[int] | None
    days: Sequence[int] | None
    months: Sequence[int] | None
    weekdays: Sequence[int] | None
    """With `days`: either is enough."""


def cron_text(value: object) -> str:
    """The expression with single spaces. ValueError, with a sentence, for what is not one, or never happens."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a cron expression; {_EXAMPLE}")
    parts = value.split()
    if value.strip().lower() in _MACROS:
        raise ValueError(f"{shown(value)} is not understood by all schedulers; write {_MACROS[value.strip().lower()]}")
    if clock := _CLOCK.fullmatch(value.strip()):
        raise ValueError(f"{shown(value)} is a time, not a cron expression; write {int(clock[2])} {int(clock[1])} * * *")
    if len(parts) != len(_FIELDS):
        names = "minute, hour, day of the month, month, day of the week"
        second = f"; without seconds: {' '.join(parts[1:])}" if len(parts) == len(_FIELDS) + 1 else f"; {_EXAMPLE}"
        raise ValueError(f"{shown(value)} has {len(parts)} fields where five are needed ({names}){second}")
    for field, part in zip(_FIELDS, parts, strict=True):
        if complaint := field.complaint(part):
            raise ValueError(f"{shown(value)}: {complaint}")
    day, weekday = parts[2], parts[4]
    if day != "*" and weekday != "*" and "*" in day[0] + weekday[0]:
        raise ValueError(
            f"{shown(value)}: a star with a step, beside a second field of days, is read differently by different programs;"
            " write a range with a step, such as 1-31/2 (then either field is enough)"
        )
    text = " ".join(parts)
    try:
        next(CronSim(text, datetime(2000, 1, 1)))
    except (CronSimError, StopIteration):
        raise ValueError(f"{shown(value)} never happens: no such month has such a day") from None
    return text


def time_zone(value: object) -> str:
    """The name of a time zone that this machine knows. ValueError with a sentence for another one."""
    known = available_timezones() - {"localtime", "Factory"}
    if value not in known:
        cities = {name.rpartition("/")[2].lower(): name for name in sorted(known)}
        near = get_close_matches(str(value).replace(" ", "_").rpartition("/")[2].lower(), cities, n=1)
        question = f"did you mean '{cities[near[0]]}'? " if near else ""
        raise ValueError(f"{shown(value)} is not a time zone; {question}write a name such as Europe/Berlin or UTC")
    return str(value)


def next_times(cron: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """The next times after `after`, which knows its zone, in the zone of the job; fewer if that is more than 50 years away."""
    times = CronSim(cron, after.astimezone(ZoneInfo(zone)))
    return [time for _, time in zip(range(count), times, strict=False)]


def times_of(cron: str) -> Times:
    """What the fields of an expression, one that `cron_text` gave, stand for."""
    parsed = CronSim(cron, datetime(2000, 1, 1))
    minute, hour, day, month, weekday = cron.split()
    # CronSim has other kinds of items for L and #, which `cron_text` has refused.
    weekdays = sorted({number % 7 for number in parsed.weekdays if isinstance(number, int)})
    return Times(
        minutes=None if minute == "*" else sorted(parsed.minutes),
        hours=None if hour == "*" else sorted(parsed.hours),
        days=None if day == "*" else sorted(parsed.days),
        months=None if month == "*" else sorted(parsed.months),
        weekdays=None if weekday == "*" else weekdays,
    )


def portable(cron: str) -> str:
    """The same times in numbers alone, Sunday as 0: not every cron takes names in ranges, and Kubernetes takes no 7."""
    *others, month, weekday = cron.upper().split()
    for number, word in enumerate(_MONTHS, start=1):
        month = month.replace(word, str(number))
    if "7" in weekday.partition("/")[0] or "SUN" in weekday:
        weekday = ",".join(map(str, times_of(cron).weekdays or ()))
    for number, word in enumerate(_DAYS):
        weekday = weekday.replace(word, str(number))
    return " ".join((*others, month, weekday))
