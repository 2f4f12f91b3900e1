"""URI@START-END: a part of a video, as people write it."""

from __future__ import annotations

import re
from typing import NamedTuple

from indexer.errors import ConfigError

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,2}):([0-9]{2}(?:\.[0-9]{1,6})?)")


class Span(NamedTuple):
    """[start_seconds, end_seconds) of a video, as a player shows its time."""

    uri: str
    start_seconds: float
    end_seconds: float

    @property
    def start_ms(self) -> int:
        """As segments count: 1000 * 130.021 is a little less than 130021, and would touch the segment before."""
        return round(1000 * self.start_seconds)

    @property
    def end_ms(self) -> int:
        return round(1000 * self.end_seconds)


def parse_span(text: str) -> Span:
    """Times are seconds (750, 750.25) or clock times (12:30, 01:12:30.250). The last @ counts: names may have others.

    Raises ConfigError.
    """
    uri, _, times = text.rpartition("@")
    start, dash, end = times.partition("-")
    if not uri or not dash:
        raise ConfigError(f"{text!r} is no part of a video; write URI@START-END, such as fair.mp4@12:30-12:50")
    span = Span(uri, _time(start, text), _time(end, text))
    if span.start_seconds >= span.end_seconds:
        raise ConfigError(f"{text!r}: the end must be after the start")
    return span


def _time(time: str, text: str) -> float:
    if _SECONDS.fullmatch(time):
        return float(time)
    found = _CLOCK.fullmatch(time)
    if found is None or (found[1] and int(found[2]) >= 60) or float(found[3]) >= 60:
        raise ConfigError(f"{text!r}: {time!r} is no time; write 750, 750.25, 12:30 or 01:12:30.250")
    return 3600 * int(found[1] or 0) + 60 * int(found[2]) + float(found[3])
