"""Runs the plan on Ray, and lets decoding begin while the model is still being loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from indexer.config import Job
from indexer.execute.base import WorkMeter
from indexer.execute.ranges import Staging
from indexer.execute.ray import RayCluster, complaining_of_ray
from indexer.execute.scheduler import Scheduler, decoders_at_once
from indexer.execute.workers import decode_settings
from indexer.figures import Figure
from indexer.infer.presets import remember_geometry, remembered_geometry
from indexer.infer.weights import read_labels, resolve_weights
from indexer.records import Outcome, Unit


class RayExecutor:
    """See `Executor` for the contract."""

    def __init__(self, job: Job) -> None:
        self.meter = WorkMeter()
        self._job = job
        self._cluster = RayCluster(job)

    def start(self, plan: Callable[[int], Iterable[Unit]]) -> Sequence[str]:
        self._cluster.start(resolve_weights(self._job.model), read_labels(self._job.model.labels))
        units = iter(plan(self._cluster.decode_slots))
        remembered = remembered_geometry(self._job.model, self._job.sampling)
        first: list[Unit] = []
        if remembered is not None:
            settings = decode_settings(self._job, remembered)
            first = list(islice(units, decoders_at_once(self._cluster, remembered)))
            for unit in first:
                self._cluster.decode_ahead(unit, settings)
        self._units = chain(first, units)
        with complaining_of_ray():
            self._spec = self._cluster.load()
        if remembered != self._spec.geometry:
            self._cluster.forget_ahead()
            remember_geometry(self._job.model, self._spec.geometry)
        return self._spec.labels

    def process(self, staging: Staging, *, stopped: Callable[[], bool], late: Callable[[], bool]) -> Iterator[Outcome | None]:
        settings = decode_settings(self._job, self._spec.geometry)
        scheduler = Scheduler(self._job, self._cluster, self.meter, self._spec, settings, self._units, staging)
        try:
            with complaining_of_ray():
                yield from scheduler.run(stopped, late)
        finally:
            scheduler.cancel()
            self._cluster.forget_ahead()

    def publish(self, figures: Iterable[Figure]) -> None:
        if self._job.ray.address is not None:  # a Ray of our own lives as long as this run, on ports that nobody can know
            self._cluster.publish(figures)

    def describe(self) -> str:
        return self._cluster.describe()

    def close(self) -> None:
        self._cluster.stop()
