"""A long video that is decoded in ranges: they come in any order, and are put together when all are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from indexer.errors import Corrupt
from indexer.records import Failure, IndexedRange, IndexedVideo, Outcome, SegmentRange, Video


class Staging(Protocol):
    """Keeps finished ranges of unfinished videos from one run to the next."""

    def load(self, video: Video) -> Iterable[IndexedRange]:
        """What earlier runs have finished of exactly these bytes."""
        ...

    def save(self, finished: IndexedRange) -> None: ...


class LongVideo:
    """One long video in the making."""

    def __init__(self, video: Video, ranges: Iterable[SegmentRange]) -> None:
        self._video = video
        self.missing = set(ranges)
        self._done: dict[SegmentRange, IndexedVideo] = {}
        self._to_do = len(self.missing)

    def add(self, finished: IndexedRange) -> None:
        """A range that is not one of this video's, or is there already, is ignored: it may be of an older way to split."""
        if finished.segments in self.missing:
            self.missing.remove(finished.segments)
            self._done[finished.segments] = finished.indexed

    def begin(self) -> None:
        """What is missing now is what this run has to do."""
        self._to_do = len(self.missing)

    @property
    def share(self) -> float:
        """Of what this run has to do of it, so much is done, 0 to 1."""
        return 1 - len(self.missing) / self._to_do if self._to_do else 1.0

    @property
    def underway(self) -> tuple[float, float]:
        """Bytes and seconds that go with this share. Ranges are about equally long."""
        one = next(iter(self._done.values()), None)
        seconds = 0.0 if one is None else one.info.duration_seconds
        return self.share * self._video.size_bytes, self.share * seconds

    def outcome(self) -> Outcome:
        """All ranges as one video, as if it had been decoded in one go."""
        parts = [part for _, part in sorted(self._done.items())]
        segments = tuple(segment for part in parts for segment in part.segments)
        if not segments:
            return Failure(self._video, Corrupt.code, "no picture is shown at any of the sampled times")
        described = [part for part in parts if part.segments]
        warnings = tuple(dict.fromkeys(code for part in parts for code in part.warnings))
        decode_seconds = sum(part.decode_seconds for part in parts)
        return replace(described[-1], segments=segments, warnings=warnings, decode_seconds=decode_seconds)
