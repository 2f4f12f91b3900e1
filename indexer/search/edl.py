"""An answer as an edit decision list (CMX 3600): the moments one after the other, ready to be opened in an editing suite.

    001  FAIR     V     C        00:12:30:00 00:12:50:00 01:00:00:00 01:00:20:00
    * FROM CLIP NAME: fair.mp4

Source times count from the first frame of the file as 00:00:00:00, whatever timecode a camera wrote into it.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from indexer.errors import ConfigError
from indexer.search.answer import SearchResult
from indexer.search.timecode import FrameRate, frame_rate

MOST_EVENTS = 999
"""An event number has three digits."""

_REEL_LETTERS = 8
_START_HOUR = 1
_TITLE_LETTERS = 70


def edl(result: SearchResult) -> str:
    """The text of the list, at the frame rate that most moments have. Raises ConfigError if it cannot hold them all."""
    if len(result.moments) > MOST_EVENTS:
        raise ConfigError(
            f"an EDL holds {MOST_EVENTS} events, not {len(result.moments):,}: give --limit {MOST_EVENTS}, or less"
        )
    rates = {uri: frame_rate(video.average_fps) for uri, video in result.videos.items()}
    common = Counter(rates[moment.uri] for moment in result.moments).most_common(1)
    record = common[0][0] if common else frame_rate(0)
    reels = _reels(list(result.videos))
    lines = [f"TITLE: {one_line(result.query)[:_TITLE_LETTERS]}", f"FCM: {'' if record.drop else 'NON-'}DROP FRAME"]
    position = _hours(record, _START_HOUR)
    for number, moment in enumerate(result.moments, start=1):
        rate = rates[moment.uri]
        begin, end = rate.first_frame(moment.start_seconds), rate.end_frame(moment.end_seconds)
        length = max(1, round((end - begin) / rate.exact * record.exact))
        times = [rate.timecode(begin), rate.timecode(end), record.timecode(position), record.timecode(position + length)]
        lines += [
            "",
            f"{number:03d}  {reels[moment.uri]:<{_REEL_LETTERS}} V     C        {' '.join(times)}",
            f"* FROM CLIP NAME: {one_line(PurePosixPath(moment.uri).name)}",
            f"* SOURCE FILE: {one_line(moment.uri)}",
            f"* COMMENT: {one_line(moment.label)} {moment.score:.2f}",
        ]
        if rate != record:
            lines.append(f"* SOURCE FRAME RATE: {float(rate.exact):.6g}")
        position += length
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """File names are hostile text: nothing in them may end a line of a list."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _hours(rate: FrameRate, hours: int) -> int:
    """The number of the frame whose timecode is so many whole hours."""
    dropped = 54 * rate.nominal // 15 if rate.drop else 0  # minutes of an hour that are no tenth one
    return hours * (3600 * rate.nominal - dropped)


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
