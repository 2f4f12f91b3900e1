"""Ray: starts it or joins it, and keeps the processes that `scheduler` works with. The ONLY module that imports ray.

Decoding runs in tasks, one process each; a crash has exactly one victim. Models live in actors. Every retry of Ray's own is
off, because by default a video that crashes its decoder is tried again for ever.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray import exceptions
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from indexer.config import Job
from indexer.errors import DecoderCrash, ExecutionError, IndexerError, OutOfMemory, OutputError
from indexer.execute.calls import CALLS_PER_ACTOR
from indexer.execute.cluster import Lost, MachineLost
from indexer.execute.contact import Contact, answers, authentication_hint, check_reachable, check_versions, versions
from indexer.execute.gauges import Gauges
from indexer.execute.lean import without_helpers
from indexer.execute.pool import ModelPool
from indexer.execute.resources import decode_memory, decode_slots, gpus_per_actor, gpus_per_decoder, store_bytes
from indexer.execute.scheduler import HEARTBEAT_SECONDS, PACKS_AHEAD, most_batch_clips
from indexer.execute.sigterm import own_sigterm
from indexer.execute.workers import Answer, ModelWorker, decode_process
from indexer.figures import Figure
from indexer.infer.models import ModelSpec
from indexer.infer.weights import Weights
from indexer.records import Unit

if TYPE_CHECKING:
    from indexer.decode.video import DecodeSettings

VERSIONS_SECONDS = 60.0
"""For every machine of a cluster to start a process and say what is installed there."""

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
        self._versions: list[tuple[str, Any]] = []
        self._models_begun = count()
        self._known_nodes: list[dict[str, Any]] = []
        self._ahead: dict[tuple[Unit, DecodeSettings], Any] = {}
        self._gauges = Gauges(Gauge, job.name)

    def start(self, weights: Weights, labels: tuple[str, ...] | None) -> None:
        """Start or join Ray, and begin to load a model. Raises ConfigError or ExecutionError."""
        self._session = _connect(self._job)
        self._contact = Contact(ray.get_runtime_context().gcs_address)
        nodes = [node["Resources"] for node in self._nodes()]
        self.decode_slots = decode_slots(self._job, nodes)
        self.store_bytes = store_bytes(self._job, nodes)
        self._decode_memory = decode_memory(nodes, self.decode_slots)
        self._gpus, most = gpus_per_actor(self._job, nodes)
        self._decoder_gpus = gpus_per_decoder(self._job, nodes, self._gpus * most, self.decode_slots)
        if self._job.ray.address is not None:
            self._versions = _ask_versions(self._nodes())
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
        # On a GPU the clips of one call are copied there while those of the other are computed; the rest stays in order.
        threads = {"concurrency_groups": {"predict": CALLS_PER_ACTOR}} if self._gpus else {}
        self._model = remote(num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_task_retries=0, **threads)(ModelWorker)
        fewest = self._job.ray.actors[0]
        self._pool = ModelPool(self._start_model, ray.kill, self._most_clips, fewest=fewest, most=most)
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
        self._check_versions()
        while self._pool.spec is None:
            for ref in self.wait(self.preparing, HEARTBEAT_SECONDS):
                self.prepared(ref)
            if not any(answers(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in self._known_nodes):
                raise ExecutionError("Ray itself is gone. Nothing was begun; run it again.")  # waiting would never end
        return self._pool.spec

    def stop(self) -> None:
        if ray.is_initialized():
            well = self._contact.answers()
            ray.shutdown()
            if self._job.ray.address is None and well:  # else its logs may say what it died of
                shutil.rmtree(self._session, ignore_errors=True)

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
        self._contact.check()
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
            if isinstance(error.cause, IndexerError):
                raise error.cause from None
            raise DecoderCrash(f"the process that decoded it failed: {type(error.cause).__name__}: {error.cause}") from error

    def answer(self, ref: Any, actor: int) -> Answer | Lost:
        what: Literal["model", "machine"] = "model"
        try:
            answer: Answer = ray.get(ref)
            return answer
        except _MACHINE_LOST as error:
            return Lost("pixels", str(error))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, (_MACHINE_LOST)):
                return Lost("pixels", str(error.cause))
            if isinstance(error.cause, (IndexerError, exceptions.OutOfDiskError)):
                raise error.cause from None
            reason = f"{type(error.cause).__name__}: {error.cause}"
        except (exceptions.RayActorError, exceptions.OutOfMemoryError) as error:
            reason = f"its process died ({type(error).__name__})"
            if "its node has died" in str(error):  # Ray has no type for this
                what = "machine"
        self._pool.replace(actor)
        return Lost(what, reason)

    def prepared(self, ref: Any) -> None:
        try:
            answer = ray.get(ref)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, IndexerError):
                raise error.cause from None
            self._pool.failed(ref, f"{type(error.cause).__name__}: {error.cause}")
        except (
            exceptions.RayActorError, exceptions.ActorUnschedulableError, exceptions.OutOfMemoryError, *_MACHINE_LOST
        ) as error:  # fmt: skip
            self._pool.failed(ref, f"{error}{authentication_hint(self._job)}")
        else:
            self._pool.prepared(ref, answer)

    def _nodes(self) -> list[dict[str, Any]]:
        """The machines that are there, or were when the head of Ray last answered."""
        if self._contact.answers():
            self._known_nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        return self._known_nodes

    def _most_clips(self, spec: ModelSpec) -> int:
        return most_batch_clips(self, spec.geometry)

    def _start_model(self) -> Any:
        where: Any = "DEFAULT"
        if not self._gpus:
            # It asks for no CPU, as it shares those of decoders, so Ray would put it anywhere: also where there is none, and a
            # soft affinity, too, was seen to end there. If the machine is lost meanwhile, this start fails and another begins.
            decoding = [node for node in self._nodes() if node["Resources"].get("CPU")]
            if decoding:
                node = decoding[next(self._models_begun) % len(decoding)]
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return self._model.options(scheduling_strategy=where).remote(*self._model_arguments, gpu=self._gpus > 0)

    def _check_versions(self) -> None:
        """Raises ExecutionError if a machine of the cluster has something else installed than this one."""
        asked, self._versions = self._versions, []
        if asked:
            ray.wait([ref for _, ref in asked], num_returns=len(asked), timeout=VERSIONS_SECONDS)
        found = []
        for machine, ref in asked:
            try:
                found.append((machine, ray.get(ref, timeout=0)))
            except exceptions.RayTaskError as error:
                raise ExecutionError(f"{machine} cannot run the indexer: {error.cause}. Is it installed there?") from error
            except exceptions.RayError:
                continue  # it is busy or gone: its work will show
        check_versions(versions(), found)

    def grow(self) -> None:
        self._pool.grow()

    def shrink(self, actor: int) -> None:
        self._pool.shrink(actor)


@contextmanager
def complaining_of_ray() -> Iterator[None]:
    """Raises ExecutionError where Ray's own processes are gone, OutputError where their disk is full."""
    try:
        yield
    except exceptions.OutOfDiskError as error:
        raise OutputError(
            "the disk of Ray's temporary folder (RAY_TMPDIR, else /tmp) is full: what does not fit into the object store is"
            " written there. Free space or raise ray.object_store. Finished videos are safe; run it again."
        ) from error
    except exceptions.RaySystemError as error:
        raise ExecutionError(f"Ray itself is gone: {error}. Finished videos are safe; run it again.") from error


def _connect(job: Job) -> str:
    """Gives the folder of what Ray writes on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": job.ray.object_store}
        if job.ray.address is not None:
            check_reachable(job.ray.address)
            own = {}
        with without_helpers(ray), own_sigterm():
            context: Any = ray.init(job.ray.address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError, exceptions.RayError) as error:
        where = "started" if job.ray.address is None else f"reached at {job.ray.address} (ray.address)"
        hint = "" if "Version mismatch" in str(error) else authentication_hint(job)
        raise ExecutionError(f"Ray could not be {where}: {error}.{hint}") from error
    return str(context.address_info["session_dir"]) if job.ray.address is None else ""


def _ask_versions(nodes: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Machines, and references to what is installed there."""
    remote: Any = ray.remote
    ask = remote(num_cpus=0, max_retries=0)(versions)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((node["NodeManagerAddress"], ask.options(scheduling_strategy=there).remote()))
    return asked
