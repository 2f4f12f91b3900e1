"""Frame numbers and timecode as editing suites count them.

At 29.97 and 59.94 frames a second, timecode that counts to 30 or 60 falls behind the clock. Drop-frame timecode drops numbers,
never frames: the first two (four) of every minute that is no tenth one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

_NTSC = Fraction(1000, 1001)
_BROADCAST = [Fraction(n) for n in (24, 25, 30, 48, 50, 60, 100, 120)] + [n * _NTSC for n in (24, 30, 48, 60, 120)]
_SLACK = 0.0003
"""Relative: an average over a file is not exact. The slowed NTSC rates differ by 0.001 from the whole ones."""
_DEFAULT = Fraction(25)
_MOST_COUNTED = 60
"""Frames a second that timecode counts: those of faster videos are counted in groups."""
_TIMECODE = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})([:;.])([0-9]{2})")


@dataclass(frozen=True, slots=True)
class FrameRate:
    """Frames per second, exactly."""

    exact: Fraction
    may_drop: bool = True

    @property
    def counted(self) -> FrameRate:
        """The rate that its timecode counts at: a half, a third ... of one that is too fast for two digits."""
        return FrameRate(self.exact / math.ceil(self.exact / _MOST_COUNTED), self.may_drop)

    def starting_at(self, timecode: str) -> tuple[FrameRate, int]:
        """This rate, dropping numbers as the timecode of a first frame does, and the number that it gives this frame."""
        found = _TIMECODE.fullmatch(timecode)
        if found is None:
            return self, 0
        rate = FrameRate(self.exact, found[4] != ":")
        hours, minutes, seconds, frame = (int(found[place]) for place in (1, 2, 3, 5))
        minutes += 60 * hours
        return rate, (60 * minutes + seconds) * rate.nominal + frame - rate.dropped * (minutes - minutes // 10)

    @property
    def nominal(self) -> int:
        """Frames that a second of timecode counts."""
        return math.ceil(self.exact)

    @property
    def drop(self) -> bool:
        """Whether its timecode drops numbers, as is usual for 29.97 and 59.94."""
        return self.may_drop and self.exact in (30 * _NTSC, 60 * _NTSC)

    @property
    def dropped(self) -> int:
        """Numbers that most minutes drop."""
        return self.nominal // 15 if self.drop else 0

    def first_frame(self, seconds: float) -> int:
        """Number of the frame that is shown at this time; 0 is the first of the video."""
        return math.floor(_milliseconds(seconds) * self.exact)

    def end_frame(self, seconds: float) -> int:
        """Number of the first frame that is no longer shown before this time."""
        return math.ceil(_milliseconds(seconds) * self.exact)

    def timecode(self, frame: int) -> str:
        """HH:MM:SS:FF of a frame counted from 00:00:00:00; HH:MM:SS;FF where numbers are dropped. Begins anew after a day."""
        if self.drop:
            of_minute, of_ten = 60 * self.nominal - self.dropped, 600 * self.nominal - 9 * self.dropped
            tens, rest = divmod(frame, of_ten)
            minutes = 0 if rest < 60 * self.nominal else 1 + (rest - 60 * self.nominal) // of_minute
            frame += self.dropped * (9 * tens + minutes)
        seconds, number = divmod(frame, self.nominal)
        hours, minutes, seconds = seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if self.drop else ':'}{number:02d}"


def frame_rate(average_fps: float) -> FrameRate:
    """The rate of a video by its average: the broadcast rate that it is, or else just this one; 25 if unknown."""
    if not 0.5 <= average_fps <= 1000:
        return FrameRate(_DEFAULT)
    nearest = min(_BROADCAST, key=lambda rate: abs(float(rate) - average_fps))
    return FrameRate(
        nearest if abs(average_fps / float(nearest) - 1) <= _SLACK else Fraction(average_fps).limit_denominator(1000)
    )


def _milliseconds(seconds: float) -> Fraction:
    return Fraction(round(1000 * seconds), 1000)
