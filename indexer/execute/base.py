"""What the pipeline asks of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from indexer.execute.ranges import Staging
from indexer.figures import Figure
from indexer.records import Outcome, Unit


@dataclass(slots=True)
class WorkMeter:
    """What the work has cost so far, summed over all workers. Read by the progress display while it grows."""

    clips: int = 0
    video_seconds: float = 0.0
    """Of segments that were decoded."""
    underway_bytes: float = 0.0
    """Of long videos that are not whole yet: what is done of them, by size."""
    underway_seconds: float = 0.0
    """The same by length."""
    queue_bytes: int = 0
    """Of clips in memory now, on their way to a model or with it."""
    fetched_bytes: int = 0
    """Of videos, from another machine."""
    fetched_of_bytes: int = 0
    """What those videos have, all in all."""
    fetch_wait_seconds: float = 0.0
    """How long decoders stood still for the bytes of large objects."""
    stage_seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "decode": 0.0, "infer": 0.0})


class Executor(Protocol):
    """Turns units into outcomes. Knows nothing of the catalog: what it returns is not yet true."""

    meter: WorkMeter

    def start(self, plan: Callable[[int], Iterable[Unit]]) -> Sequence[str]:
        """Find (or fetch) and load the weights, and start the workers. Gives the model's labels, in its order.

        `plan` gives the units to do, if so many workers share them. The first ones may be decoded while the model loads; what
        comes of them counts for nothing before `process`. Raises WeightsError, ConfigError or ExecutionError.
        """
        ...

    def process(self, staging: Staging, *, stopped: Callable[[], bool], late: Callable[[], bool]) -> Iterator[Outcome | None]:
        """One outcome for every video of the plan, in any order, each as soon as it is known.

        None comes about every half second in between, so that the caller can show progress and commit. Once `stopped()` is
        true, it ends soon: videos without an outcome by then are left for the next run. Once `late()` is true, no video and
        no range of a long one is begun, and it ends when those that were begun are done.
        """
        ...

    def publish(self, figures: Iterable[Figure]) -> None:
        """Show them to whoever watches the machines that do the work; does nothing where nobody can."""
        ...

    def describe(self) -> str:
        """One line for the user: what runs where, in which precision. Known after the first outcome."""
        ...

    def close(self) -> None:
        """Stop all workers. Safe to call twice, and without `start`."""
        ...
