"""The figures of a run as metrics of Ray, which the Prometheus of a cluster collects from its nodes.

Imports no ray: `make` is its `ray.util.metrics.Gauge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from indexer.figures import Figure


class Gauges:
    """One of Ray's gauges for each figure, made when it is first shown."""

    def __init__(self, make: Callable[[str, str, tuple[str, ...]], Any], job: str) -> None:
        self._make = make
        self._job = job
        self._gauges: dict[str, Any] = {}

    def show(self, figures: Iterable[Figure]) -> None:
        """They stay until they are shown again: whoever has shown a value as 1 must show it as 0 when that is over."""
        for figure in figures:
            labels = () if figure.label is None else (figure.label,)
            if figure.name not in self._gauges:
                self._gauges[figure.name] = self._make(figure.name, figure.description, ("job", *labels))
            for key, value in figure.values.items():
                self._gauges[figure.name].set(float(value), {"job": self._job} | dict.fromkeys(labels, key))
