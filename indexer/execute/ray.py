"""Ray: starts it or joins it, and keeps the processes that `scheduler` works with. The ONLY module that imports ray.

Decoding runs in tasks, one process each; a crash has exactly one victim. Models live in actors. Every retry of Ray's own is
off, because by default a video that crashes its decoder is tried again for ever.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions

from indexer.config import Job
from indexer.errors import ConfigError, DecoderCrash, ExecutionError, OutOfMemory
from indexer.execute.base import WorkMeter
from indexer.execute.scheduler import Scheduler
from indexer.execute.workers import Answer, ModelWorker, decode_stream
from indexer.infer.models import ModelSpec
from indexer.infer.weights import read_labels, resolve_weights
from indexer.records import Outcome, Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings
    from indexer.infer.modes import Mode

ACTOR_DEATHS_ALLOWED = 3
"""In a row, without an answer in between; then it is not bad luck."""
STREAM_OBJECTS_AHEAD = 4
"""A decoder stops when two packs with their headers wait to be taken."""


class RayExecutor:
    """See `Executor` for the contract."""

    def __init__(self, job: Job) -> None:
        self.meter = WorkMeter()
        self._job = job
        self._cluster = RayCluster(job)

    def start(self) -> Sequence[str]:
        self._spec = self._cluster.start()
        return self._spec.labels

    def process(self, units: Iterable[Unit], *, stopped: Callable[[], bool]) -> Iterator[Outcome | None]:
        scheduler = Scheduler(self._job, self._cluster, self.meter, self._spec, units)
        try:
            yield from scheduler.run(stopped)
        finally:
            scheduler.cancel()

    def describe(self) -> str:
        return self._cluster.describe()

    def close(self) -> None:
        self._cluster.stop()


class RayCluster:
    """See `scheduler.Cluster` for the contract."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.decode_slots = 0
        self.batch_clips: int | None = None
        self.actors: list[int] = []
        self.preparing: list[Any] = []
        self._handles: dict[int, Any] = {}
        self._preparing_of: dict[Any, int] = {}
        self._numbers = count()
        self._mode: Mode | None = None
        self._deaths = 0

    def start(self) -> ModelSpec:
        """Start or join Ray, and load the first model. Raises WeightsError, ConfigError or ExecutionError."""
        model = self._job.model
        self._model_arguments = (model, self._job.sampling, resolve_weights(model), read_labels(model.labels))
        _connect(self._job)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.decode_slots = self._job.ray.decode_cpus or max(1, int(resources.get("CPU", 1)))
        self._gpus = _gpus_per_actor(self._job, resources.get("GPU", 0.0))
        remote: Any = ray.remote  # its type hints lag behind its options
        self._decode = remote(
            num_cpus=1,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=STREAM_OBJECTS_AHEAD,
        )(decode_stream)
        first = self._add_actor()
        try:
            spec: ModelSpec = ray.get(self._handles[first].load.remote())
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.RayActorError as error:
            raise ExecutionError(f"the model could not be loaded in a worker process: {error}") from error
        self._prepare(first)
        return spec

    def stop(self) -> None:
        self._handles.clear()
        if ray.is_initialized():
            ray.shutdown()

    def describe(self) -> str:
        where = "this machine" if self._job.ray.address is None else f"the cluster at {self._job.ray.address}"
        device = "GPU" if self._gpus else "CPU"
        mode = f" ({self._mode})" if self._mode else ""
        return f"Ray on {where}, {self.decode_slots} decoders, {len(self.actors)} x {self._job.model.name} on {device}{mode}"

    def decode(self, unit: Unit, settings: DecodeSettings) -> Any:
        return self._decode.remote(unit, settings)

    def cancel(self, stream: Any) -> None:
        ray.cancel(stream, force=True)

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[Any]) -> Any:
        return self._handles[actor].predict.remote(slices, *packs)

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        ready: list[Any] = ray.wait(refs, num_returns=1, timeout=timeout_seconds, fetch_local=False)[0] if refs else []
        return ready

    def get(self, ref: Any) -> Any:
        try:
            return ray.get(ref)
        except exceptions.OutOfMemoryError as error:
            raise OutOfMemory("the process that decoded it was stopped because memory ran out") from error
        except (exceptions.WorkerCrashedError, exceptions.TaskCancelledError, exceptions.ObjectLostError) as error:
            raise DecoderCrash("the process that decoded it died") from error

    def answer(self, ref: Any, actor: int) -> Answer | None:
        try:
            answer: Answer = ray.get(ref)
        except (exceptions.RayActorError, exceptions.OutOfMemoryError, exceptions.ObjectLostError) as error:
            self._replace(actor, error)
            return None
        self._deaths = 0
        return answer

    def prepared(self, ref: Any) -> None:
        self.preparing.remove(ref)
        actor = self._preparing_of.pop(ref)
        try:
            mode: Mode = ray.get(ref)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.RayActorError as error:
            self._replace(actor, error)
            return
        self.actors.append(actor)
        if self._mode is None:
            self._mode, self.batch_clips = mode, mode.batch_clips
            for _ in range(self._job.ray.actors[0] - 1):
                self._prepare(self._add_actor(load=True))

    def grow(self) -> None:
        if not self.preparing and len(self.actors) < self._job.ray.actors[1]:
            self._prepare(self._add_actor(load=True))

    def _add_actor(self, *, load: bool = False) -> int:
        number = next(self._numbers)
        remote: Any = ray.remote
        actor = remote(num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_task_retries=0)(ModelWorker)
        self._handles[number] = actor.remote(*self._model_arguments)
        if load:
            self._handles[number].load.remote()
        return number

    def _prepare(self, actor: int) -> None:
        ref = self._handles[actor].prepare.remote(self._mode)
        self.preparing.append(ref)
        self._preparing_of[ref] = actor

    def _replace(self, actor: int, error: Exception) -> None:
        """A model died; Ray's own restart would come back without its weights."""
        if actor not in self._handles:
            return  # another call of the same actor brought the news already
        del self._handles[actor]
        if actor in self.actors:
            self.actors.remove(actor)
        self._deaths += 1
        if self._deaths >= ACTOR_DEATHS_ALLOWED:
            raise ExecutionError(f"the model's process died {self._deaths} times in a row: {error}") from error
        self._prepare(self._add_actor(load=True))


def _connect(job: Job) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    on_terminate = signal.getsignal(signal.SIGTERM)  # Ray sets its own, which ends this process in the middle of anything
    try:
        if job.ray.address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=job.ray.object_store,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=job.ray.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ExecutionError(f"Ray could not be started or reached: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


def _gpus_per_actor(job: Job, available: float) -> float:
    wanted = job.ray.gpus_per_actor
    if wanted == "auto":
        return 1.0 if available else 0.0
    if wanted > available:
        raise ConfigError(f"ray.gpus_per_actor: {wanted:g} GPUs for one model, but Ray sees {available:g}; use auto or 0")
    return float(wanted)
