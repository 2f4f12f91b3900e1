"""The same stages in this process: no Ray, one video after the other. For tests, small jobs and debugging.

A decoder that crashes takes this process with it, and one that hangs is not stopped: decode.timeout needs Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from indexer.config import Job
from indexer.execute.base import WorkMeter
from indexer.execute.cluster import Lost
from indexer.execute.ranges import Staging
from indexer.execute.scheduler import Scheduler
from indexer.execute.workers import RANGE_SECONDS, Answer, ModelWorker, decode_settings, decode_stream
from indexer.figures import Figure
from indexer.infer.weights import read_labels, resolve_weights
from indexer.records import Outcome, Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings


class LocalExecutor:
    """See `Executor` for the contract."""

    def __init__(self, job: Job, *, range_seconds: float = RANGE_SECONDS) -> None:
        self.meter = WorkMeter()
        self._job = job
        self._range_seconds = range_seconds

    def start(self, plan: Callable[[int], Iterable[Unit]]) -> Sequence[str]:
        self._units = plan(1)
        model = self._job.model
        self._model = ModelWorker(model, self._job.sampling, resolve_weights(model), read_labels(model.labels))
        self._spec = self._model.load()
        return self._spec.labels

    def process(self, staging: Staging, *, stopped: Callable[[], bool], late: Callable[[], bool]) -> Iterator[Outcome | None]:
        settings = decode_settings(self._job, self._spec.geometry, range_seconds=self._range_seconds)
        cluster = ThisProcess(self._model, self._job.ray.object_store)
        yield from Scheduler(self._job, cluster, self.meter, self._spec, settings, self._units, staging).run(stopped, late)

    def publish(self, figures: Iterable[Figure]) -> None:
        """Nobody watches this process from outside."""

    def describe(self) -> str:
        return f"this process, {self._model.describe()}"

    def close(self) -> None:
        """Nothing outlives this process."""


class _Value:
    """What a reference is where nothing is far away."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Stream:
    """A decode task that works when it is asked."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __next__(self) -> _Value:
        return _Value(next(self._items))


class ThisProcess:
    """See `cluster.Cluster` for the contract. Everything is done at once, when it is called for."""

    def __init__(self, model: ModelWorker, store_bytes: int) -> None:
        self._model = model
        self.decode_slots = 1
        self.store_bytes = store_bytes
        self.batch_clips: int | None = model.prepare().batch_clips
        self.actors = [0]
        self.preparing: list[Any] = []

    def decode(self, unit: Unit, settings: DecodeSettings) -> _Stream:
        return _Stream(decode_stream(unit, settings))

    def cancel(self, stream: _Stream) -> None:
        """It stops by not being asked any more."""

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[_Value]) -> _Value:
        return _Value(self._model.predict(slices, *(pack.value for pack in packs)))

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        return refs[:1]  # answers come before streams in the scheduler's list

    def get(self, ref: _Value) -> Any:
        return ref.value

    def answer(self, ref: _Value, actor: int) -> Answer | Lost:
        answer: Answer = ref.value
        return answer

    def prepared(self, ref: Any) -> None:
        """The one model is ready from the start."""

    def grow(self) -> None:
        """There is room for one model."""

    def shrink(self, actor: int) -> None:
        """The one model stays."""
