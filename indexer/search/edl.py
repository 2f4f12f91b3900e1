"""An answer as an edit decision list (CMX 3600): the moments one after the other, ready to be opened in an editing suite.

    001  FAIR     V     C        00:12:30:00 00:12:50:00 01:00:00:00 01:00:20:00
    * FROM CLIP NAME: fair.mp4

Source times count from the timecode of the file's first frame, where that is known, else from 00:00:00:00.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from indexer.errors import ConfigError
from indexer.search.answer import SearchResult
from indexer.search.timecode import frame_rate

MOST_EVENTS = 999
"""An event number has three digits."""

UNKNOWN: Mapping[str, str] = {}
"""Timecodes of first frames, where there are none."""

_REEL_LETTERS = 8
_TITLE_LETTERS = 70


def edl(result: SearchResult, starts: Mapping[str, str] = UNKNOWN) -> str:
    """The text of the list, at the frame rate that most moments have; `starts` are timecodes of first frames, by uri.

    Raises ConfigError if it cannot hold them all.
    """
    if len(result.moments) > MOST_EVENTS:
        raise ConfigError(
            f"an EDL holds {MOST_EVENTS} events, not {len(result.moments):,}: give --limit {MOST_EVENTS}, or less"
        )
    full = {uri: frame_rate(video.average_fps) for uri, video in result.videos.items()}
    sources = {uri: rate.counted.starting_at(starts.get(uri, "")) for uri, rate in full.items()}
    common = Counter(sources[moment.uri][0] for moment in result.moments).most_common(1)
    record = common[0][0] if common else frame_rate(0)
    reels = _reels(list(result.videos))
    lines = [f"TITLE: {one_line(result.query)[:_TITLE_LETTERS]}", _counting(drop=record.drop)]
    drop = record.drop
    position = record.starting_at(f"01:00:00{';' if record.drop else ':'}00")[1]
    for number, moment in enumerate(result.moments, start=1):
        rate, start = sources[moment.uri]
        begin, end = rate.first_frame(moment.start_seconds), rate.end_frame(moment.end_seconds)
        length = max(1, round((end - begin) / rate.exact * record.exact))
        source = [rate.timecode(start + begin), rate.timecode(start + end)]
        recorded = [record.timecode(position), record.timecode(position + length)]
        if rate.drop != drop:
            drop = rate.drop
            lines += ["", _counting(drop=drop)]
        lines += [
            "",
            f"{number:03d}  {reels[moment.uri]:<{_REEL_LETTERS}} V     C        {' '.join([*source, *recorded])}",
            f"* FROM CLIP NAME: {one_line(PurePosixPath(moment.uri).name)}",
            f"* SOURCE FILE: {one_line(moment.uri)}",
            f"* COMMENT: {one_line(moment.label)} {moment.score:.2f}",
        ]
        if full[moment.uri].exact != record.exact:
            counted = "" if rate.exact == full[moment.uri].exact else f", COUNTED AT {float(rate.exact):.6g}"
            lines.append(f"* SOURCE FRAME RATE: {float(full[moment.uri].exact):.6g}{counted}")
        position += length
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """File names are hostile text: nothing in them may end a line of a list."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _counting(*, drop: bool) -> str:
    """How the source times of the events after this line count."""
    return f"FCM: {'' if drop else 'NON-'}DROP FRAME"


def _reels(uris: list[str]) -> dict[str, str]:
    """A name of its own for each file: the first letters and digits of its name, or fewer and a number."""
    reels: dict[str, str] = {}
    taken: set[str] = set()
    for uri in uris:
        letters = re.sub("[^A-Z0-9]", "", PurePosixPath(uri).stem.upper()) or "REEL"
        name, number = letters[:_REEL_LETTERS], 1
        while name in taken:
            number += 1
            name = letters[: _REEL_LETTERS - len(str(number))] + str(number)
        taken.add(name)
        reels[uri] = name
    return reels
