"""What the scheduler needs of the processes that do the work. `ray` has many of them, `local` has only this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from indexer.execute.workers import Answer
from indexer.records import Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings


@dataclass(frozen=True, slots=True)
class Lost:
    """Why there is no answer: the model failed (and is being replaced), its machine was lost, or some of the clips were."""

    what: Literal["model", "machine", "pixels"]
    reason: str


class MachineLost(Exception):
    """A process is gone for a reason that is no video's: its machine went away."""


class Cluster(Protocol):
    """Processes that decode, processes that hold the model, and references to what they give."""

    decode_slots: int
    """How many decode tasks may run at once."""
    store_bytes: int
    """Memory for clips on their way to the model."""

    @property
    def batch_clips(self) -> int | None:
        """Clips in one batch; None until the first model is ready."""
        ...

    @property
    def actors(self) -> list[int]:
        """Models that are ready."""
        ...

    @property
    def preparing(self) -> list[Any]:
        """References to models that are not; give them to `prepared` when they come."""
        ...

    def decode(self, unit: Unit, settings: DecodeSettings) -> Any:
        """Start `workers.decode_stream`; the stream gives references, two for each item: pixels or None, then the item."""
        ...

    def cancel(self, stream: Any) -> None:
        """Kill the process behind a stream."""
        ...

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[Any]) -> Any: ...

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        """Those of `refs` that have something to give; at least one, unless the time is over."""
        ...

    def get(self, ref: Any) -> Any:
        """What a decode task gave. Raises VideoError if its process died, MachineLost if that was no fault of its own."""
        ...

    def answer(self, ref: Any, actor: int) -> Answer | Lost: ...

    def prepared(self, ref: Any) -> None: ...

    def grow(self) -> None:
        """Start one more model if the job allows it."""
        ...

    def shrink(self, actor: int) -> None:
        """Stop one model if the job allows it."""
        ...
