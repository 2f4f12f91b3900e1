"""What keeping an index sound takes: check, check --deep, compaction and rebuild of 100,000 segments with 500,000 hits.

Each in a process of its own, for what it holds in memory at most; random vectors and labels of a model of 400.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from indexer.catalog.commit import claim, commit, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.records import IndexedVideo, MediaInfo, Recipe, Segment, Video
from indexer.storage import open_storage
from indexer.upkeep.check import check
from indexer.upkeep.compact import compact
from indexer.upkeep.rebuild import fill
from indexer.write.parquet import write_part

PARTS, VIDEOS, SEGMENTS, TOP, WIDTH = 20, 50, 100, 5, 512
LABELS = [f"label {number}" for number in range(400)]
RECIPE = Recipe("0" * 64, "{}")


def make_index(folder: Path) -> None:
    """PARTS parts of VIDEOS videos of SEGMENTS segments each."""
    engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=True)
    storage = open_storage(str(folder))
    random = np.random.default_rng(1)
    with acquire(engine, "benchmark") as lease:
        run = start_run(engine, lease=lease, recipe=RECIPE, labels=LABELS)
        for number in range(PARTS):
            videos = [_video(f"/archive/{number}/{at}.mp4", random) for at in range(VIDEOS)]
            claim(engine, run, "/archive", [indexed.video for indexed in videos])
            part = write_part(videos, storage, recipe=RECIPE, run_id=run.run_id, sequence=number + 1, labels=LABELS)
            commit(engine, run, part, videos)
    engine.dispose()


def _video(uri: str, random: np.random.Generator) -> IndexedVideo:
    segments = []
    for n in range(SEGMENTS):
        labels = tuple(LABELS[label] for label in random.choice(len(LABELS), TOP, replace=False))
        scores = tuple(sorted(map(float, random.random(TOP, np.float32)), reverse=True))
        vector = random.standard_normal(WIDTH, np.float32).astype(np.float16)
        segments.append(Segment(10_000 * n, 10_000 * (n + 1), 1, labels, scores, vector))
    info = MediaInfo(0, 10.0 * SEGMENTS, 320, 240, "h264", 25.0)
    return IndexedVideo(Video(uri, "1", size_bytes=1, modified_at=1.0), info, tuple(segments), ())


def do(folder: Path, what: str) -> None:
    engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=True)
    storage = open_storage(str(folder))
    with acquire(engine, "benchmark") as lease:
        match what:
            case "check" | "check_deep":
                assert not list(check(engine, storage, deep=what == "check_deep", progress=lambda *_: None))
            case "compact":
                assert compact(engine, lease.token, storage, dry_run=False, progress=lambda *_: None).parts == PARTS
            case "rebuild":
                assert fill(engine, lease, storage, source="/archive", progress=lambda *_: None).videos == PARTS * VIDEOS
    engine.dispose()


def measured(work: Callable[..., None], *arguments: object) -> dict[str, float]:
    """Seconds, and the most memory above that of a process that only imports."""
    queue: multiprocessing.Queue[dict[str, float]] = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(queue, work, arguments))
    process.start()
    figures = queue.get()
    process.join()
    return figures


def _measure(queue: multiprocessing.Queue[dict[str, float]], work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    before = _most_memory_mb()
    began, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    seconds = {"seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
    queue.put({**seconds, "memory_mb": _most_memory_mb() - before})


def _most_memory_mb() -> int:
    """Of this program so far. What getrusage says is also of the program that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024)


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_index(folder)
        figures = {what: measured(do, folder, what) for what in ("check", "check_deep", "compact", "rebuild")}
        return {"segments": PARTS * VIDEOS * SEGMENTS, "hits": PARTS * VIDEOS * SEGMENTS * TOP, **figures}
