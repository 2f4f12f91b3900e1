"""One reporter that hands everything on to several."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.records import Outcome
from indexer.report import Reporter, Tally


class Listeners:
    """See `Reporter` for the contract."""

    def __init__(self, listeners: Sequence[Reporter]) -> None:
        self._listeners = listeners

    def note(self, text: str) -> None:
        for listener in self._listeners:
            listener.note(text)

    def warn(self, text: str) -> None:
        for listener in self._listeners:
            listener.warn(text)

    def started(self, tally: Tally) -> None:
        for listener in self._listeners:
            listener.started(tally)

    def outcome(self, outcome: Outcome) -> None:
        for listener in self._listeners:
            listener.outcome(outcome)

    def progress(self, tally: Tally) -> None:
        for listener in self._listeners:
            listener.progress(tally)

    def finished(self, tally: Tally, outcome: str) -> None:
        for listener in self._listeners:
            listener.finished(tally, outcome)

    def failed(self, message: str, exit_code: int) -> None:
        for listener in self._listeners:
            listener.failed(message, exit_code)


class Silent:
    """A listener to whom most of it is of no interest."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def started(self, tally: Tally) -> None: ...

    def outcome(self, outcome: Outcome) -> None: ...

    def progress(self, tally: Tally) -> None: ...

    def finished(self, tally: Tally, outcome: str) -> None: ...

    def failed(self, message: str, exit_code: int) -> None: ...
