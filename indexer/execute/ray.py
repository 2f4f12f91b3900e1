"""Ray: starts it or joins it, and keeps the processes that `scheduler` works with. The ONLY module that imports ray.

Decoding runs in tasks, one process each; a crash has exactly one victim. Models live in actors. Every retry of Ray's own is
off, because by default a video that crashes its decoder is tried again for ever.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions
from ray.util.metrics import Gauge

from indexer.config import Job
from indexer.errors import DecoderCrash, ExecutionError, IndexerError, OutOfMemory
from indexer.execute.calls import CALLS_PER_ACTOR
from indexer.execute.cluster import Lost, MachineLost
from indexer.execute.gauges import Gauges
from indexer.execute.pool import ModelPool
from indexer.execute.resources import authentication_hint, check_reachable, decode_memory, gpus_per_actor, gpus_per_decoder
from indexer.execute.scheduler import HEARTBEAT_SECONDS, PACKS_AHEAD
from indexer.execute.workers import Answer, ModelWorker, decode_process
from indexer.figures import Figure
from indexer.infer.models import ModelSpec
from indexer.infer.weights import Weights
from indexer.records import Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings

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
        self._pool: ModelPool  # from `start` on
        self._ahead: dict[tuple[Unit, DecodeSettings], Any] = {}
        self._gauges = Gauges(Gauge, job.name)

    def start(self, weights: Weights, labels: tuple[str, ...] | None) -> None:
        """Start or join Ray, and begin to load a model. Raises ConfigError or ExecutionError."""
        _connect(self._job)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.decode_slots = self._job.ray.decode_cpus or max(1, int(resources.get("CPU", 1)))
        self.store_bytes = int(resources.get("object_store_memory", self._job.ray.object_store))
        self._decode_memory = decode_memory(resources.get("memory", 0.0), self.decode_slots)
        gpus = resources.get("GPU", 0.0)
        self._gpus, most = gpus_per_actor(self._job, gpus)
        self._decoder_gpus = gpus_per_decoder(self._job, gpus, self._gpus * most, self.decode_slots)
        if self._job.ray.address is not None:
            weights = ray.put(weights.with_content())  # type: ignore[assignment]  # once to each machine, whatever it has
        arguments = (self._job.model, self._job.sampling, weights, labels)
        remote: Any = ray.remote  # its type hints lag behind its options
        self._decode = remote(
            num_cpus=1,
            num_gpus=self._decoder_gpus,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=2 * PACKS_AHEAD,
        )(decode_process)
        # On a GPU the clips of one call are copied there while those of the other are computed; the rest stays in order.
        threads = {"concurrency_groups": {"predict": CALLS_PER_ACTOR}} if self._gpus else {}
        model = remote(num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_task_retries=0, **threads)(ModelWorker)
        self._pool = ModelPool(
            lambda: model.remote(*arguments, gpu=self._gpus > 0), ray.kill, fewest=self._job.ray.actors[0], most=most
        )
        self._pool.add()

    @property
    def batch_clips(self) -> int | None:
        return None if self._pool.mode is None else self._pool.mode.batch_clips

    @property
    def actors(self) -> list[int]:
        return self._pool.at_work

    @property
    def preparing(self) -> list[Any]:
        return self._pool.preparing

    def load(self) -> ModelSpec:
        """Wait until the first model has its weights. Raises WeightsError, ConfigError or ExecutionError."""
        while self._pool.spec is None:
            for ref in self.wait(self.preparing, HEARTBEAT_SECONDS):
                self.prepared(ref)
            if not any(node["Alive"] for node in ray.nodes()):  # type: ignore[no-untyped-call]
                raise ExecutionError("Ray itself is gone. Nothing was begun; run it again.")  # waiting would never end
        return self._pool.spec

    def stop(self) -> None:
        if ray.is_initialized():
            ray.shutdown()

    def publish(self, figures: Iterable[Figure]) -> None:
        self._gauges.show(figures)

    def describe(self) -> str:
        where = "this machine" if self._job.ray.address is None else f"the cluster at {self._job.ray.address}"
        device = "GPU" if self._gpus else "CPU"
        mode = f" ({self._pool.mode})" if self._pool.mode else ""
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
        predict = self._pool.handles[actor].predict
        return (predict.options(concurrency_group="predict") if self._gpus else predict).remote(slices, *packs)

    def wait(self, refs: list[Any], timeout_seconds: float) -> list[Any]:
        self._pool.check()
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
            reason = f"{type(error.cause).__name__}: {error.cause}"
        except (exceptions.RayActorError, exceptions.OutOfMemoryError) as error:
            reason = f"its process died ({type(error).__name__})"
        self._pool.replace(actor)
        return Lost("model", reason)

    def prepared(self, ref: Any) -> None:
        try:
            answer = ray.get(ref)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, IndexerError):
                raise error.cause from None
            self._pool.failed(ref, f"{type(error.cause).__name__}: {error.cause}")
        except (exceptions.RayActorError, exceptions.OutOfMemoryError, *_MACHINE_LOST) as error:
            self._pool.failed(ref, f"{error}{authentication_hint(self._job)}")
        else:
            self._pool.prepared(ref, answer)

    def grow(self) -> None:
        self._pool.grow()

    def shrink(self, actor: int) -> None:
        self._pool.shrink(actor)


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
