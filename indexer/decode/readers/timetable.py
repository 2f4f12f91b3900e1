"""When each frame of a file is shown, by its packets alone: for readers that number frames and are not trusted with time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from indexer.decode.containers import open_container
from indexer.decode.probe import OpenVideo
from indexer.decode.readers import TIME_TOLERANCE_SECONDS, hold_limit
from indexer.errors import ReaderRefused


@dataclass(frozen=True, slots=True)
class Timetable:
    """All frames of a file in the order they are shown."""

    seconds: list[float]
    """When each one begins. Not empty."""
    fps: float
    last_seconds: float
    """How long the last one is shown."""

    @property
    def end_seconds(self) -> float:
        return self.seconds[-1] + self.last_seconds

    def is_last(self, number: int) -> bool:
        return number == len(self.seconds) - 1

    def number_at(self, wanted: float) -> tuple[int, bool]:
        """The last frame that began by `wanted`, or the first one; and whether it is still shown then."""
        number = max(bisect_right(self.seconds, wanted + TIME_TOLERANCE_SECONDS) - 1, 0)
        limit = hold_limit(self.fps)
        if self.is_last(number):
            limit = min(limit, self.last_seconds + TIME_TOLERANCE_SECONDS)
        return number, wanted < self.seconds[number] + limit


def read_timetable(video: OpenVideo) -> Timetable:
    """Reads all packets, in a container of its own. Raises ReaderRefused where they do not tell."""
    base = video.stream.time_base
    if video.clock != "pts" or base is None:
        raise ReaderRefused("the container stores no frame times, and without them only pyav can read it")
    with open_container(video.file) as scan:
        packets = scan.demux(scan.streams[video.stream.index])
        # What an edit list cuts off is decoded, for the frames that refer to it, but never shown.
        shown = [(packet.pts, packet.duration or 0) for packet in packets if packet.size and not packet.is_discard]
    pts = [value for value, _ in shown]
    if not pts or any(value is None for value in pts) or len(set(pts)) != len(pts):
        raise ReaderRefused("the frame times of this file are missing or repeat themselves")
    seconds = sorted(float(value * base) - video.origin_seconds for value in pts if value is not None)
    _, last = max(shown)
    return Timetable(seconds, video.guessed_fps, max(float(last * base), 1 / video.guessed_fps))
