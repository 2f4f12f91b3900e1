"""An example to compare with: a video of the user's own, embedded as a run of the job would."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from indexer.config import Job
from indexer.console import printable
from indexer.errors import ConfigError, SourceError, VideoSkip
from indexer.execute import make_executor
from indexer.infer.modes import loading
from indexer.records import Failure, IndexedRange, IndexedVideo, Skipped, Unit, Video
from indexer.storage.source import absolute, examine_each


def embeddings_of(file: str, job: Job, *, note: Callable[[str], None]) -> NDArray[np.float16]:
    """The embeddings [n, width] of the segments of a video, made in this process as a run of the job would make them.

    Raises SourceError if the video cannot be used; WeightsError, ConfigError.
    """
    try:
        uri = absolute(os.getcwd(), file)  # noqa: PTH109
    except ValueError as error:
        raise ConfigError(f"{printable(file)} {error}") from None
    # A run does not follow links, lest it index a video twice; this is no reason here.
    (listed,) = examine_each([os.path.realpath(uri) if os.path.islink(uri) else uri])  # noqa: PTH114
    if not isinstance(listed, Video):
        raise _unusable(file, listed)
    note(loading(job.model.name, here=True))
    executor = make_executor(job, local=True)
    try:
        executor.start(lambda workers: [Unit((listed,))])
        outcomes = executor.process(_KeepsNothing(), stopped=lambda: False, late=lambda: False)
        (outcome,) = (outcome for outcome in outcomes if outcome is not None)
    finally:
        executor.close()
    if not isinstance(outcome, IndexedVideo):
        raise _unusable(file, outcome)
    return np.stack([segment.embedding for segment in outcome.segments])


class _KeepsNothing:
    """See `execute.ranges.Staging`: an example is not worth to be kept."""

    def load(self, video: Video) -> Iterable[IndexedRange]:
        return ()

    def save(self, finished: IndexedRange) -> None:
        pass


def _unusable(file: str, outcome: Failure | Skipped) -> SourceError:
    why = VideoSkip.REASONS[outcome.reason] if isinstance(outcome, Skipped) else outcome.message
    return SourceError(f"{printable(file)} cannot be compared: {why}")
