"""Ray: starts it or joins it, and keeps the processes that `scheduler` works with. The ONLY module that imports ray.

Decoding runs in tasks, one process each; a crash has exactly one victim. Models live in actors. Every retry of Ray's own is
off, because by default a video that crashes its decoder is tried again for ever.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions
from ray.util.metrics import Gauge

from indexer.config import Job
from indexer.errors import DecoderCrash, ExecutionError, IndexerError, OutOfMemory
from indexer.execute.calls import CALLS_PER_ACTOR
from indexer.execute.cluster import Lost, MachineLost
from indexer.execute.gauges import Gauges
from indexer.execute.resources import authentication_hint, check_reachable, decode_memory, gpus_per_actor, gpus_per_decoder
from indexer.execute.scheduler import HEARTBEAT_SECONDS, PACKS_AHEAD
from indexer.execute.workers import Answer, ModelWorker, decode_process
from indexer.figures import Figure
from indexer.infer.models import ModelSpec
from indexer.infer.weights import Weights
from indexer.records import Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings
    from indexer.infer.modes import Mode

STARTS_ALLOWED = 3
"""So often in a row a model's process may die before it is ready; then it is not bad luck."""
START_SECONDS = 600.0
"""For the first model to load; longer than any disk takes, so it waits for a place that does not become free."""

_MACHINE_LOST = (
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.ObjectFetchTimedOutError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectStoreFullError,
)


class RayCluster:
    """See `cluster.Cluster` for the contract."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.decode_slots = 0
        self.store_bytes = 0
        self.batch_clips: int | None = None
        self.actors: list[int] = []
        self.preparing: list[Any] = []
        self._handles: dict[int, Any] = {}
        self._preparing_of: dict[Any, int] = {}
        self._ahead: dict[tuple[Unit, DecodeSettings], Any] = {}
        self._numbers = count()
        self._mode: Mode | None = None
        self._failed_starts = 0
        self._gauges = Gauges(Gauge, job.name)

    def start(self, weights: Weights, labels: tuple[str, ...] | None) -> None:
        """Start or join Ray, and begin to load a model. Raises ConfigError or ExecutionError."""
        _connect(self._job)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.decode_slots = self._job.ray.decode_cpus or max(1, int(resources.get("CPU", 1)))
        self.store_bytes = int(resources.get("object_store_memory", self._job.ray.object_store))
        self._decode_memory = decode_memory(resources.get("memory", 0.0), self.decode_slots)
        gpus = resources.get("GPU", 0.0)
        self._gpus, self._most_actors = gpus_per_actor(self._job, gpus)
        self._decoder_gpus = gpus_per_decoder(self._job, gpus, self._gpus * self._most_actors, self.decode_slots)
        if self._job.ray.address is not None:
            weights = ray.put(weights.with_content())  # type: ignore[assignment]  # once to each machine, whatever it has
        self._model_arguments = (self._job.model, self._job.sampling, weights, labels)
        remote: Any = ray.remote  # its type hints lag behind its options
        self._decode = remote(
            num_cpus=1,
            num_gpus=self._decoder_gpus,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=2 * PACKS_AHEAD,
        )(decode_process)
        self._begin_first()

    def load(self) -> ModelSpec:
        """Wait until the first model has its weights. Raises WeightsError, ConfigError or ExecutionError."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.wait([self._loading], HEARTBEAT_SECONDS):
                    spec: ModelSpec = ray.get(self._loading)
                    self._prepare(self._first)
                    return spec
                if not any(node["Alive"] for node in ray.nodes()):  # type: ignore[no-untyped-call]
                    raise ExecutionError("Ray itself is gone. Nothing was begun; run it again.")  # waiting would never end
            except exceptions.RayTaskError as error:
                raise _own_error(error) from None
            except exceptions.RayActorError as error:
                self._count_failed_start(error)
                self._begin_first()
            if time.monotonic() > give_up:
                raise ExecutionError(
                    f"no process for the model could be started in {START_SECONDS:g} s: "
                    f"the CPUs or GPUs that Ray has ({ray.cluster_resources()}) are all taken"  # type: ignore[no-untyped-call]
                )

    def stop(self) -> None:
        self._handles.clear()
        if ray.is_initialized():
            ray.shutdown()

    def publish(self, figures: Iterable[Figure]) -> None:
        self._gauges.show(figures)

    def describe(self) -> str:
        where = "this machine" if self._job.ray.address is None else f"the cluster at {self._job.ray.address}"
        device = "GPU" if self._gpus else "CPU"
        mode = f" ({self._mode})" if self._mode else ""
        decoders = f"{self.decode_slots} decoders{' (nvdec)' if self._decoder_gpus else ''}"
        return f"Ray on {where}, {decoders}, {len(self.actors)} x {self._job.model.name} on {device}{mode}"

    def decode(self, unit: Unit, settings: DecodeSettings) -> Any:
        begun = self._ahead.pop((unit, settings), None)
        return begun or self._begin_decoding(unit, settings)

    def decode_ahead(self, unit: Unit, settings: DecodeSettings) -> None:
        """Begin what `decode` will be asked for."""
        self._ahead[unit, settings] = self._begin_decoding(unit, settings)

    def _begin_decoding(self, unit: Unit, settings: DecodeSettings) -> Any:
        return self._decode.remote(unit, settings, self._decode_memory, gpu=self._decoder_gpus > 0)

    def forget_ahead(self) -> None:
        """Nobody will ask: what was begun must not keep a core waiting."""
        for stream in self._ahead.values():
            self.cancel(stream)
        self._ahead.clear()

    def cancel(self, stream: Any) -> None:
        ray.cancel(stream, force=True)

    def predict(self, actor: int, slices: list[tuple[int, int]], packs: list[Any]) -> Any:
        predict = self._handles[actor].predict
        return (predict.options(concurrency_group="predict") if self._gpus else predict).remote(slices, *packs)

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        ready: list[Any] = ray.wait(refs, num_returns=1, timeout=timeout_seconds, fetch_local=False)[0] if refs else []
        return ready

    def get(self, ref: Any) -> Any:
        try:
            return ray.get(ref)
        except exceptions.OutOfMemoryError as error:
            raise OutOfMemory("the process that decoded it was stopped because memory ran out") from error
        except _MACHINE_LOST as error:
            raise MachineLost("the machine that decoded it was lost") from error
        except (exceptions.WorkerCrashedError, exceptions.TaskCancelledError) as error:
            raise DecoderCrash("the process that decoded it died") from error
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, MemoryError):
                raise OutOfMemory("decoding it took more memory than one decoder may have") from error
            raise _own_error(error) from None

    def answer(self, ref: Any, actor: int) -> Answer | Lost:
        try:
            answer: Answer = ray.get(ref)
            return answer
        except _MACHINE_LOST as error:
            return Lost("pixels", str(error))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, (_MACHINE_LOST)):
                return Lost("pixels", str(error.cause))
            if isinstance(error.cause, IndexerError):
                raise error.cause from None
            # A GPU that has failed once fails for ever, until its process is gone.
            self._kill(actor)
            return self._replaced(actor, f"{type(error.cause).__name__}: {error.cause}")
        except (exceptions.RayActorError, exceptions.OutOfMemoryError) as error:
            return self._replaced(actor, f"its process died ({type(error).__name__})")

    def prepared(self, ref: Any) -> None:
        self.preparing.remove(ref)
        actor = self._preparing_of.pop(ref)
        try:
            mode: Mode = ray.get(ref)
        except exceptions.RayTaskError as error:
            raise _own_error(error) from None
        except exceptions.RayActorError as error:
            self._count_failed_start(error)
            self._replaced(actor, str(error))
            return
        self._failed_starts = 0
        self.actors.append(actor)
        if self._mode is None:
            self._mode, self.batch_clips = mode, mode.batch_clips
            for _ in range(self._job.ray.actors[0] - 1):
                self._prepare(self._add_actor())

    def grow(self) -> None:
        if not self.preparing and len(self.actors) < self._most_actors:
            self._prepare(self._add_actor())

    def shrink(self, actor: int) -> None:
        if len(self.actors) > self._job.ray.actors[0]:
            self.actors.remove(actor)
            self._kill(actor)

    def _begin_first(self) -> None:
        self._first = self._add_actor(load=False)
        self._loading = self._handles[self._first].load.remote()

    def _add_actor(self, *, load: bool = True) -> int:
        number = next(self._numbers)
        remote: Any = ray.remote
        # On a GPU the clips of one call are copied there while those of the other are computed; the rest stays in order.
        threads = {"concurrency_groups": {"predict": CALLS_PER_ACTOR}} if self._gpus else {}
        actor = remote(num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_task_retries=0, **threads)(ModelWorker)
        self._handles[number] = actor.remote(*self._model_arguments, gpu=self._gpus > 0)
        if load:
            self._handles[number].load.remote()
        return number

    def _prepare(self, actor: int) -> None:
        ref = self._handles[actor].prepare.remote(self._mode)
        self.preparing.append(ref)
        self._preparing_of[ref] = actor

    def _replaced(self, actor: int, reason: str) -> Lost:
        """Start another model for one that died; Ray's own restart would come back without its weights."""
        if actor in self._handles:  # else another call of the same actor brought the news already
            del self._handles[actor]
            if actor in self.actors:
                self.actors.remove(actor)
            self._prepare(self._add_actor())
        return Lost("model", reason)

    def _kill(self, actor: int) -> None:
        ray.kill(self._handles[actor])

    def _count_failed_start(self, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= STARTS_ALLOWED:
            died = f"the model's process died {self._failed_starts} times in a row before it was ready"
            raise ExecutionError(f"{died}: {error}{authentication_hint(self._job)}") from error


@contextmanager
def complaining_of_ray() -> Iterator[None]:
    """Raises ExecutionError where Ray's own processes are gone."""
    try:
        yield
    except exceptions.RaySystemError as error:
        raise ExecutionError(f"Ray itself is gone: {error}. Finished videos are safe; run it again.") from error


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
            check_reachable(job.ray.address)
            ray.init(address=job.ray.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError, exceptions.RayError) as error:
        where = "started" if job.ray.address is None else f"reached at {job.ray.address} (ray.address)"
        raise ExecutionError(f"Ray could not be {where}: {error}.{authentication_hint(job)}") from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


def _own_error(error: exceptions.RayTaskError) -> BaseException:
    """What was raised in the other process, without Ray's wrapping if it is ours."""
    return error.cause if isinstance(error.cause, IndexerError) else error
