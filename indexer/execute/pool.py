"""The processes that hold the model: one after another they load, measure, work, and are replaced when they fail.

Imports no ray: what it needs of it are a way to start a process and one to kill it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from indexer.errors import ExecutionError

if TYPE_CHECKING:
    from indexer.infer.models import ModelSpec
    from indexer.infer.modes import Mode

STARTS_ALLOWED = 3
"""So often in a row a model's process may fail before it is ready; then it is not bad luck."""
START_SECONDS = 600.0
"""For a model to load while there is no other; longer than any disk takes, so it waits for a place that is not there."""


class ModelPool:
    """All models of one run. `start` begins a process of `workers.ModelWorker` and gives its handle, `kill` ends one, and
    `most_clips` says how many clips of a model fit into one batch."""

    def __init__(
        self,
        start: Callable[[], Any],
        kill: Callable[[Any], None],
        most_clips: Callable[[ModelSpec], int],
        *,
        fewest: int,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._kill = kill
        self._most_clips = most_clips
        self._clock = clock
        self._fewest = fewest
        self._most = most
        self._numbers = count()
        self._loading: dict[Any, int] = {}
        self._measuring: dict[Any, int] = {}
        self._failed_starts = 0
        self._none_since = self._clock()
        self.handles: dict[int, Any] = {}
        self.at_work: list[int] = []
        self.spec: ModelSpec | None = None
        """Known when the first one has its weights."""
        self.mode: Mode | None = None
        """Chosen by the first one that is ready; the others take it."""

    @property
    def preparing(self) -> list[Any]:
        """References to what those say that are not at work yet; one that comes goes to `prepared` or `failed`."""
        return [*self._loading, *self._measuring]

    def add(self) -> None:
        """It loads its weights first."""
        number = next(self._numbers)
        self.handles[number] = self._start()
        self._loading[self.handles[number].load.remote()] = number

    def prepared(self, ref: Any, answer: Any) -> None:
        """One has taken the next step."""
        if ref in self._loading:
            number = self._loading.pop(ref)
            self.spec = answer
            self._measuring[self.handles[number].prepare.remote(self.mode, self._most_clips(answer))] = number
            return
        self._failed_starts = 0
        self.at_work.append(self._measuring.pop(ref))
        if self.mode is None:
            self.mode = answer
            for _ in range(self._fewest - 1):
                self.add()

    def failed(self, ref: Any, reason: str) -> None:
        """One did not come to work. Raises ExecutionError when that is no bad luck any more, unless others are at work."""
        self._discard(self._loading.pop(ref) if ref in self._loading else self._measuring.pop(ref))
        self._failed_starts += 1
        if self._failed_starts < STARTS_ALLOWED:
            self.add()
        elif not self.at_work and not self.preparing:
            raise ExecutionError(
                f"the model's process failed {self._failed_starts} times in a row before it was ready: {reason}"
            )

    def replace(self, number: int) -> None:
        """One failed at work; Ray's own restart would come back without its weights."""
        if self._discard(number):  # else another call of the same one brought the news already
            self.add()

    def grow(self) -> None:
        if not self.preparing and len(self.at_work) < self._most and self._failed_starts < STARTS_ALLOWED:
            self.add()

    def shrink(self, number: int) -> None:
        if len(self.at_work) > self._fewest:
            self._discard(number)

    def check(self) -> None:
        """Raises ExecutionError if a model should be there for a long time, and no place for one becomes free."""
        if self.at_work or self._measuring or not self._loading:
            self._none_since = self._clock()
        elif self._clock() - self._none_since > START_SECONDS:
            raise ExecutionError(
                f"no process for the model could be started in {START_SECONDS:g} s: the machines that have a place for it are"
                " gone, or all their CPUs or GPUs are taken. Finished videos are safe; run it again when there is one"
            )

    def _discard(self, number: int) -> bool:
        """Also of one that lives: a GPU that has failed once fails for ever, until its process is gone."""
        if number not in self.handles:
            return False
        self._kill(self.handles.pop(number))
        if number in self.at_work:
            self.at_work.remove(number)
        return True
