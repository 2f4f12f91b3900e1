"""How much video a run had finished at which time of the day, as a line with its axes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.console import clock

POINTS = 240
"""Of the line; with more, every second one goes."""
WIDE, HIGH = 600, 120


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn in a box of WIDE x HIGH, time to the right, finished video upwards."""

    points: str
    """Of an SVG line."""
    times: tuple[tuple[float, str], ...]
    """Place and text of each mark below, UTC."""
    lengths: tuple[tuple[float, str], ...]
    """Place, from above, and text of each mark on the left."""
    sentence: str
    """The same in words."""


class Pace:
    """Gathers points while a run goes."""

    def __init__(self) -> None:
        self._points = [(0.0, 0.0)]
        self._apart_seconds = 0.5

    def note(self, wall_seconds: float, video_seconds: float, *, last: bool = False) -> None:
        """So much video is finished, so long after the beginning of the run."""
        if wall_seconds - self._points[-1][0] < self._apart_seconds and not last:
            return
        self._points.append((wall_seconds, video_seconds))
        if len(self._points) > POINTS:
            self._points = self._points[::2]
            self._apart_seconds *= 2

    def drawn(self, ended: datetime) -> Chart | None:
        """None if no video was finished."""
        wall_seconds, video_seconds = self._points[-1][0], max(done for _, done in self._points)
        if not video_seconds or not wall_seconds:
            return None
        began = ended.astimezone(UTC) - timedelta(seconds=wall_seconds)
        form = "%H:%M:%S" if wall_seconds < 3600 else "%H:%M" if wall_seconds < 86_400 else "%d %b %H:%M"

        def at(share: float) -> str:
            return f"{began + timedelta(seconds=share * wall_seconds):{form}}"

        return Chart(
            points=" ".join(
                f"{WIDE * when / wall_seconds:.1f},{HIGH - HIGH * done / video_seconds:.1f}" for when, done in self._points
            ),
            times=tuple((WIDE * share, at(share)) for share in (0, 0.5, 1)),
            lengths=tuple((HIGH - HIGH * share, clock(share * video_seconds)) for share in (0, 0.5, 1)),
            sentence=f"{clock(video_seconds)} of video finished between {at(0)} and {at(1)} UTC",
        )
