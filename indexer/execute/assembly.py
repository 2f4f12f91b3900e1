"""Puts videos together again: decoding sends packs and last words, the model sends predictions, in any interleaving."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from indexer.errors import ModelNaN
from indexer.execute.ranges import LongVideo, Staging
from indexer.infer.segments import summarise
from indexer.records import Failure, IndexedRange, IndexedVideo, Outcome, Prediction, Skipped, Split, Unit, Video, VideoEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from indexer.records import SegmentRange

Attempt = int
"""Number of one try at one video, or range of one: what a lost try left behind can never mix with the next one."""


@dataclass(slots=True)
class _Parts:
    unit: Unit
    """What repeats this try: the one video, or range."""
    clips_predicted: int = 0
    predictions: list[Prediction] = field(default_factory=list)
    end: VideoEnd | None = None

    @property
    def video(self) -> Video:
        return self.unit.videos[0]


class Assembly:
    """Videos in the making."""

    def __init__(self, labels: Sequence[str], staging: Staging, *, top_k: int, min_score: float) -> None:
        self._labels = labels
        self._staging = staging
        self._top_k = top_k
        self._min_score = min_score
        self._open: dict[Attempt, _Parts] = {}
        self._long: dict[str, LongVideo] = {}
        self._next_attempt = 0

    def begin(self, unit: Unit) -> list[Attempt]:
        """A new try at each of its videos, or at the range of one."""
        attempts = []
        for video in unit.videos:
            self._next_attempt += 1
            self._open[self._next_attempt] = _Parts(replace(unit, videos=(video,)))
            attempts.append(self._next_attempt)
        return attempts

    def forget(self, attempt: Attempt) -> None:
        """The try was lost; whatever still arrives for it is ignored."""
        self._open.pop(attempt, None)

    def is_open(self, attempt: Attempt) -> bool:
        return attempt in self._open

    def wants(self, unit: Unit) -> bool:
        """Whether a unit is still to be done: no range of a video is that already has failed."""
        return unit.segments is None or unit.segments in self._missing(unit.videos[0])

    def again(self, attempt: Attempt) -> Unit:
        """Forget a try that is open, and give the unit that repeats it."""
        return self._open.pop(attempt).unit

    @property
    def underway(self) -> tuple[float, float]:
        """Bytes and seconds of long videos that this run has done, though none of them is whole yet."""
        done = [long.underway for long in self._long.values()]
        return sum(size for size, _ in done), sum(seconds for _, seconds in done)

    def split(self, attempt: Attempt, word: Split) -> tuple[list[Unit], Outcome | None]:
        """The units of a long video that no run has finished yet; without any, its outcome."""
        self.close(word.video)
        if not word.ranges:
            return [Unit((word.video,), may_split=False)], None
        long = self._long[word.video.uri] = LongVideo(word.video, word.ranges)
        for finished in self._staging.load(word.video):
            long.add(finished)
        long.begin()
        if not long.missing:
            return [], self._joined(word.video)
        return [Unit((word.video,), segments, may_split=False) for segments in sorted(long.missing)], None

    def finish(self, attempt: Attempt, word: VideoEnd | Failure | Skipped) -> Outcome | None:
        """Decoding's last word. The outcome of the video, if nothing more is awaited for it."""
        if not isinstance(word, VideoEnd):
            self.close(word.video)
            return word
        self._open[attempt].end = word
        return self._complete(attempt)

    def predicted(
        self, attempt: Attempt, first_clip: int, probabilities: NDArray[np.float32], embeddings: NDArray[np.float32]
    ) -> Outcome | None:
        """Predictions for some clips of a try. The outcome of the video, if they were the last ones."""
        parts = self._open.get(attempt)
        if parts is None:
            return None
        parts.predictions.append(Prediction(parts.video, first_clip, probabilities, embeddings))
        parts.clips_predicted += len(probabilities)
        return self._complete(attempt)

    def close(self, video: Video) -> None:
        """Nothing that is still on its way for this video counts any more."""
        self._long.pop(video.uri, None)
        for attempt in [attempt for attempt, parts in self._open.items() if parts.video.uri == video.uri]:
            del self._open[attempt]

    def _complete(self, attempt: Attempt) -> Outcome | None:
        parts = self._open[attempt]
        if parts.end is None or parts.clips_predicted < sum(span.clips for span in parts.end.segments):
            return None
        self.forget(attempt)
        try:
            indexed = summarise(
                parts.end, parts.predictions, labels=self._labels, top_k=self._top_k, min_score=self._min_score
            )
        except ModelNaN as error:
            self.close(parts.video)
            return Failure(parts.video, error.code, str(error))
        return indexed if parts.unit.segments is None else self._add_range(parts.unit.segments, indexed)

    def _add_range(self, segments: SegmentRange, indexed: IndexedVideo) -> Outcome | None:
        finished = IndexedRange(segments, indexed)
        self._long[indexed.video.uri].add(finished)
        if not self._missing(indexed.video):
            return self._joined(indexed.video)
        self._staging.save(finished)
        return None

    def _joined(self, video: Video) -> Outcome:
        return self._long.pop(video.uri).outcome()

    def _missing(self, video: Video) -> set[SegmentRange]:
        long = self._long.get(video.uri)
        return long.missing if long else set()
