"""Jobs whose videos are lines of text that say what a model would see: whole runs without a decoder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from indexer import pipeline
from indexer.config import Job, load_job
from indexer.execute.base import WorkMeter
from indexer.execute.ranges import Staging
from indexer.figures import Figure
from indexer.records import Failure, IndexedVideo, MediaInfo, Outcome, Segment, Unit
from tests.archives import Heard
from tests.catalogs import LABELS, Rows
from tests.dump import canonical_dump

_MOMENTS = count(1_700_000_000)


class TextReader:
    """An executor for such videos."""

    def __init__(self) -> None:
        self.meter = WorkMeter()
        self.published: dict[str, dict[str, float]] = {}

    def start(self, plan: Callable[[int], Iterable[Unit]]) -> Sequence[str]:
        self._units = plan(1)
        return LABELS

    def process(self, staging: Staging, *, stopped: Callable[[], bool], late: Callable[[], bool]) -> Iterator[Outcome | None]:
        for unit in self._units:
            for video in unit.videos:
                rows = json.loads(Path(video.uri).read_text())
                if rows is None:
                    yield Failure(video, "E_CORRUPT", "it says so")
                    continue
                segments = tuple(
                    Segment(10_000 * i, 10_000 * i + 10_000, 2, (label,), (score,), np.array([score, i], np.float16))
                    for i, (label, score) in enumerate(rows)
                )
                yield IndexedVideo(video, MediaInfo(0, 10.0 * len(rows), 320, 240, "text", 25.0), segments, ())

    def publish(self, figures: Iterable[Figure]) -> None:
        self.published = {figure.name: dict(figure.values) for figure in figures}

    def describe(self) -> str:
        return "reading texts"

    def close(self) -> None:
        pass


class TextArchive:
    """A folder of such videos, and jobs that share one index of them."""

    def __init__(self, folder: Path, catalog: str, output: str | None = None) -> None:
        self.folder = folder
        self.catalog = catalog
        self.output = output or str(folder / "output")
        (folder / "videos").mkdir(parents=True, exist_ok=True)

    def put(self, name: str, rows: Rows | None) -> str:
        """Write a video, or replace it; without rows, one that fails. Gives its uri."""
        path = self.folder / "videos" / name
        path.write_text(json.dumps(rows))
        os.utime(path, (next(_MOMENTS),) * 2)  # two writes of a moment must not look the same
        return str(path)

    def remove(self, name: str) -> None:
        (self.folder / "videos" / name).unlink()

    def job_path(self, name: str, *, segment: str = "10s") -> Path:
        """Jobs of another segment length have another recipe."""
        path = self.folder / f"{name}.yaml"
        document = {
            "name": name,
            "source": {"uri": "videos", "min_age": "0s", "missing_limit": 1.0},
            "model": {"name": "r3d_18", "weights": "random"},
            "sampling": {"segment": segment},
            "output": {"uri": self.output, "catalog": self.catalog},
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def job(self, name: str, *, segment: str = "10s") -> Job:
        return load_job(self.job_path(name, segment=segment))

    def run(self, job: Job) -> Heard:
        heard = Heard()
        pipeline.run(job, TextReader, heard, pipeline.Options(retry_failed=True), stopped=lambda: False)
        return heard

    def dump(self) -> list[dict[str, Any]]:
        return canonical_dump(self.catalog)
