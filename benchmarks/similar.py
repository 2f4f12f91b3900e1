"""What a search for similar segments takes in an index of a million: the goal is 150 ms on two cores, with the shards mapped.

Real parts, catalog and shards, filled with random vectors of 512 numbers: times do not depend on what the vectors say.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from indexer.catalog.commit import claim, commit, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.records import IndexedVideo, MediaInfo, Recipe, Segment, Video
from indexer.search.dots import dots
from indexer.search.shards import ShardedPart, Shards
from indexer.search.similar import similar
from indexer.search.span import Span
from indexer.storage import open_storage
from indexer.write.parquet import write_part

PARTS, VIDEOS, SEGMENTS, WIDTH = 10, 1000, 100, 512
ROUNDS = 15


def make_index(folder: Path) -> tuple[Recipe, list[ShardedPart]]:
    """PARTS parts of VIDEOS videos of SEGMENTS segments each."""
    parts = []
    recipe = Recipe("0" * 64, '{"model": {"name": "r3d_18"}, "sampling": {"segment": 10.0}}')
    engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=True)
    storage = open_storage(str(folder))
    random = np.random.default_rng(1)
    with acquire(engine, "benchmark") as lease:
        run = start_run(engine, lease=lease, recipe=recipe, labels=["yoga"])
        for number in range(PARTS):
            vectors = random.standard_normal((VIDEOS, SEGMENTS, WIDTH), np.float32).astype(np.float16)
            videos = [_video(f"/archive/{number}/{at}.mp4", of_video) for at, of_video in enumerate(vectors)]
            claim(engine, run, "/archive", [indexed.video for indexed in videos])
            part = write_part(videos, storage, recipe=recipe, run_id=run.run_id, sequence=number)
            commit(engine, run, part, videos)
            parts.append(ShardedPart(number, part.name, part.sha256, part.rows))
    engine.dispose()
    return recipe, parts


def _video(uri: str, vectors: np.ndarray) -> IndexedVideo:  # type: ignore[type-arg]
    segments = tuple(Segment(10_000 * n, 10_000 * (n + 1), 1, ("yoga",), (0.5,), vector) for n, vector in enumerate(vectors))
    info = MediaInfo(0, 10.0 * len(vectors), 320, 240, "h264", 25.0)
    return IndexedVideo(Video(uri, "1", size_bytes=1, modified_at=1.0), info, segments, ())


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def median(work: Callable[[], object]) -> float:
    return round(statistics.median(milliseconds(work) for _ in range(ROUNDS)), 1)


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe, parts = make_index(folder)
        engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=False, read_only=True)
        assert engine is not None
        example = Span("/archive/3/7.mp4", 120, 140)
        storage = open_storage(str(folder))

        def ask(shards: Shards, under: str | None = None) -> None:
            similar(engine, shards, example, recipe.digest, name="example", under=under)

        making = milliseconds(lambda: ask(Shards(storage, folder / "shards")))
        first = milliseconds(lambda: ask(Shards(storage, folder / "shards")))
        shards = Shards(storage, folder / "shards")
        ask(shards)
        vectors = [shard.vectors for shard in shards.open(parts)]
        query = np.ones(WIDTH, np.float32)
        figures = {
            "segments": PARTS * VIDEOS * SEGMENTS,
            "width": WIDTH,
            "cores": len(os.sched_getaffinity(0)),
            "rounds": ROUNDS,
            "first_query_that_makes_the_shards_ms": round(making),
            "first_query_of_a_process_ms": round(first, 1),
            "query_median_ms": median(lambda: ask(shards)),
            "scan_alone_median_ms": median(lambda: dots(vectors, query, [None] * len(vectors))),
            "query_under_a_tenth_median_ms": median(lambda: ask(shards, "/archive/3/")),
        }
        engine.dispose()
        return figures
