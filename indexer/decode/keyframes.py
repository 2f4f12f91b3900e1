"""Where a video's key frames are, by the index of its container: the places where decoding can begin."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av.error

from indexer.decode.containers import open_container
from indexer.decode.probe import OpenVideo
from indexer.records import ClipSpan

if TYPE_CHECKING:
    from fractions import Fraction

    from av.index import IndexEntries

_INDEXED_CONTAINERS = ("mov", "matroska")
"""Only these carry an index of key frames; elsewhere a seek lands where the file happens to be cut."""
_DELAY_SECONDS = 0.5
"""Frames leave the decoder, and the file, a little later than they are shown."""
_MAX_REORDER_SECONDS = 1.0
"""Between the decoding of a key frame and its showing; more is a stream that does not begin with a key frame."""


@dataclass(frozen=True, slots=True)
class KeyFrames:
    """Of one video; empty where no index can be trusted."""

    shown: tuple[float, ...] = ()
    """When each is shown, ascending seconds on the clock of the video."""
    reorder_seconds: float = 0.0
    """How much earlier the container lists them: MP4 counts decoding times, Matroska the times they are shown."""
    entries: tuple[tuple[float, int], ...] = ()
    """(listed time, place in the file) of all frames that the index knows, ascending."""

    def last_until(self, seconds: float) -> float | None:
        """When the last one at or before `seconds` is shown."""
        place = bisect_right(self.shown, seconds)
        return self.shown[place - 1] if place else None

    def byte_ranges(self, spans: Sequence[ClipSpan]) -> list[tuple[int, int]]:
        """Where in the file the pictures of these spans probably lie, [start, stop) each; none if no index tells."""
        ranges = []
        for span in spans if self.shown else ():
            key = self.last_until(span.start_seconds)
            listed = (self.shown[0] if key is None else key) - self.reorder_seconds
            first = self.entries[max(bisect_right(self.entries, (listed, sys.maxsize)) - 1, 0)][1]
            after = bisect_left(self.entries, (span.end_seconds + _DELAY_SECONDS, -1))
            ranges.append((first, self.entries[after][1] if after < len(self.entries) else sys.maxsize))
        return [(start, stop) for start, stop in ranges if start < stop]


def read_key_frames(video: OpenVideo) -> KeyFrames:
    """Ask the container for its index. Reads no frames."""
    base = video.stream.time_base
    if video.clock != "pts" or base is None or not video.container.format.name.startswith(_INDEXED_CONTAINERS):
        return KeyFrames()
    if len(video.stream.index_entries) >= 2:
        return _key_frames(video, video.stream.index_entries, base)
    # Matroska reads its index (the cues) at the first seek only, and a seek may lose frames: a container of its own.
    with open_container(video.file) as scan:
        with suppress(av.error.FFmpegError):
            scan.seek(0)
        return _key_frames(video, scan.streams[video.stream.index].index_entries, base)


def _key_frames(video: OpenVideo, entries: IndexEntries, base: Fraction) -> KeyFrames:
    listed = [(float(entry.timestamp * base) - video.origin_seconds, entry.pos, entry.is_keyframe) for entry in entries]
    keys = sorted(seconds for seconds, _, is_key in listed if is_key)
    if not keys:
        return KeyFrames()
    # The first picture is a key frame, so what lies between its two times does so for all.
    reorder = video.info.start_seconds - keys[0]
    if not 0 <= reorder <= _MAX_REORDER_SECONDS:
        reorder = 0.0
    places = tuple(sorted((seconds, place) for seconds, place, _ in listed))
    return KeyFrames(tuple(seconds + reorder for seconds in keys), reorder, places)
