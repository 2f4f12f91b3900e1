"""The metrics of a job in Prometheus' text format, for the textfile collector of its node exporter.

Written whole and renamed into place, every EVERY_SECONDS and at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from indexer.config import Job
from indexer.errors import RunHeld
from indexer.figures import GOOD, LAST_SUCCESS, figures
from indexer.observe.listeners import Silent
from indexer.report import Tally

EVERY_SECONDS = 10.0


class MetricsFile(Silent):
    """See `Reporter` for the contract."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        assert job.monitor.metrics is not None
        self._path = Path(job.monitor.metrics)
        self._job = job.name
        self._warn = warn
        self._next = 0.0
        self._tally: Tally | None = None
        self._last_success = _last_success(self._path, job.name)

    def started(self, tally: Tally) -> None:
        self._tally = tally
        self._write(tally, "running")

    def progress(self, tally: Tally) -> None:
        if time.monotonic() >= self._next:
            self._write(tally, "running")

    def finished(self, tally: Tally, outcome: str) -> None:
        if outcome in GOOD:
            self._last_success = time.time()
        self._write(tally, outcome)

    def failed(self, message: str, exit_code: int) -> None:
        if exit_code != RunHeld.exit_code:  # then the file is the other run's
            self._write(self._tally, "failed")

    def _write(self, tally: Tally | None, outcome: str) -> None:
        self._next = time.monotonic() + EVERY_SECONDS
        try:
            write_to_textfile(str(self._path), self._gauges(tally, outcome))
        except OSError as error:
            self._warn(f"{self._path}: the metrics cannot be written (monitor.metrics): {error.strerror}")
            self._next = float("inf")  # said once

    def _gauges(self, tally: Tally | None, outcome: str) -> CollectorRegistry:
        registry = CollectorRegistry()
        for figure in figures(tally, outcome, last_success=self._last_success):
            labels = () if figure.label is None else (figure.label,)
            gauge = Gauge(figure.name, figure.description, ["job", *labels], registry=registry)
            for key, value in figure.values.items():
                gauge.labels(job=self._job, **dict.fromkeys(labels, key)).set(value)
        return registry


def _last_success(path: Path, job: str) -> float | None:
    """What an earlier run wrote; None if there was none, or it cannot be read."""
    try:
        families = list(text_string_to_metric_families(path.read_text()))
    except (OSError, ValueError):
        return None
    samples = (sample for family in families for sample in family.samples)
    return next((s.value for s in samples if s.name == LAST_SUCCESS and s.labels.get("job") == job), None)
