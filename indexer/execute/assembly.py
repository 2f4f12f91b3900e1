"""Puts videos together again: decoding sends packs and last words, the model sends predictions, in any interleaving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from indexer.errors import ModelNaN
from indexer.infer.segments import summarise
from indexer.records import Failure, Outcome, Prediction, Skipped, Video, VideoEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

Attempt = int
"""Number of one try at one video: what a lost try left behind can never mix with the next one."""


@dataclass(slots=True)
class _Parts:
    video: Video
    clips_predicted: int = 0
    predictions: list[Prediction] = field(default_factory=list)
    end: VideoEnd | None = None


class Assembly:
    """Videos in the making."""

    def __init__(self, labels: Sequence[str], *, top_k: int, min_score: float) -> None:
        self._labels = labels
        self._top_k = top_k
        self._min_score = min_score
        self._open: dict[Attempt, _Parts] = {}
        self._next_attempt = 0

    def begin(self, video: Video) -> Attempt:
        """A new try at `video`."""
        self._next_attempt += 1
        self._open[self._next_attempt] = _Parts(video)
        return self._next_attempt

    def forget(self, attempt: Attempt) -> None:
        """The try was lost; whatever still arrives for it is ignored."""
        self._open.pop(attempt, None)

    def is_open(self, attempt: Attempt) -> bool:
        return attempt in self._open

    def finish(self, attempt: Attempt, word: VideoEnd | Failure | Skipped) -> Outcome | None:
        """Decoding's last word. The outcome, if no prediction is awaited any more."""
        if not isinstance(word, VideoEnd):
            self.forget(attempt)
            return word
        self._open[attempt].end = word
        return self._complete(attempt)

    def predicted(
        self, attempt: Attempt, first_clip: int, probabilities: NDArray[np.float32], embeddings: NDArray[np.float32]
    ) -> Outcome | None:
        """Predictions for some clips of a try. The outcome, if they were the last ones."""
        parts = self._open.get(attempt)
        if parts is None:
            return None
        parts.predictions.append(Prediction(parts.video, first_clip, probabilities, embeddings))
        parts.clips_predicted += len(probabilities)
        return self._complete(attempt)

    def _complete(self, attempt: Attempt) -> Outcome | None:
        parts = self._open[attempt]
        if parts.end is None or parts.clips_predicted < sum(span.clips for span in parts.end.segments):
            return None
        self.forget(attempt)
        try:
            return summarise(parts.end, parts.predictions, labels=self._labels, top_k=self._top_k, min_score=self._min_score)
        except ModelNaN as error:
            return Failure(parts.video, error.code, str(error))
