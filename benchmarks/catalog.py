"""The catalog at some size: how fast commits load hits, how many bytes a segment takes, how long people wait for an answer.

    python -m benchmarks catalog 10_000_000          segments; 1,000,000 without a number

Videos of 100 segments with five labels each, which are as unevenly common as those of real archives. On an SQLite file, and
on a PostgreSQL server of its own with its settings as they come, once its autovacuum has been there, as on any later day. SQL
statements of a search are those of `indexer.search`.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from indexer.catalog.commit import RunRef, claim, commit, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading
from indexer.catalog.lease import acquire
from indexer.catalog.lookup import totals
from indexer.records import IndexedVideo, MediaInfo, Part, Recipe, Segment, Video
from indexer.search import search
from indexer.search.coverage import coverage
from indexer.search.recipes import searched_recipes
from tests.postgres import Postgres

SEGMENTS = 1_000_000
PER_VIDEO, PER_SEGMENT = 100, 5
PER_COMMIT = 1_280
"""Videos, as many as have the rows that a run commits at once."""
LABELS = tuple(f"action {number:03}" for number in range(400))
ASKED = {"hot": LABELS[0], "middle": LABELS[20], "rare": LABELS[300]}
RECIPE = Recipe("ab" * 32, json.dumps({"model": {"name": "r3d_18"}, "sampling": {"segment": 10.0}}))
REPEATS = 7
SOURCE = "/srv/archive"


def videos(count: int) -> Iterator[list[IndexedVideo]]:
    """The same ones every time, some at once."""
    dice = np.random.default_rng(7)
    weights = 1 / np.arange(1, len(LABELS) + 1)
    embedding = np.zeros(4, np.float16)
    for first in range(0, count, PER_COMMIT):
        some = min(PER_COMMIT, count - first)
        drawn = dice.choice(len(LABELS), (some, PER_VIDEO, 3 * PER_SEGMENT), p=weights / weights.sum())
        scores = -np.sort(-dice.beta(1, 6, (some, PER_VIDEO, PER_SEGMENT)))
        made = []
        for number in range(some):
            segments = tuple(
                Segment(10_000 * n, 10_000 * n + 10_000, 1, names, tuple(scores[number, n, : len(names)].tolist()), embedding)
                for n, names in enumerate(map(_five, drawn[number]))
            )
            position = first + number
            uri = f"{SOURCE}/{position % 37:02}/tape {position // 37:05}/clip {position:07}.mp4"
            video = Video(uri, f"{position}-1700000000", 10_000_000, 1.7e9 + 60.0 * (position * 7919 % count))
            made.append(IndexedVideo(video, MediaInfo(0, 10.0 * PER_VIDEO, 1920, 1080, "h264", 25.0), segments, ()))
        yield made


def _five(drawn: np.ndarray) -> tuple[str, ...]:
    return tuple(LABELS[label] for label in list(dict.fromkeys(drawn.tolist()))[:PER_SEGMENT])


def load(engine: Engine, run: RunRef, count: int) -> dict[str, float]:
    claiming = committing = 0.0
    hits = 0
    for number, some in enumerate(videos(count)):
        part = Part(f"parts/{number}.parquet", len(some) * PER_VIDEO, 1, "00")
        began = time.perf_counter()
        claim(engine, run, SOURCE, [one.video for one in some])
        claimed = time.perf_counter()
        commit(engine, run, part, some)
        claiming += claimed - began
        committing += time.perf_counter() - claimed
        hits += sum(len(segment.labels) for one in some for segment in one.segments)
    return {"hits": hits, "hits_per_second": round(hits / committing), "claims_per_second": round(count / claiming)}


def milliseconds(ask: Callable[[], object]) -> float:
    """The median; nothing is cold."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times), 1)


QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "newest 50": ("", {"sort": "newest"}),
    "newest 50 in one folder": ("", {"sort": "newest", "under": f"{SOURCE}/07/"}),
    "newest 50, score 0.3": ("", {"sort": "newest", "min_score": 0.3}),
    "newest 50 within 15 s of another label": (f' near:15s label:"{LABELS[10]}"', {"sort": "newest"}),
    "best 50": ("", {}),
    "best 50, score 0.3": ("", {"min_score": 0.3}),
    "best 50 in one folder": ("", {"under": f"{SOURCE}/07/"}),
    "best 50 within 15 s of another label": (f' near:15s label:"{LABELS[10]}"', {}),
}


def answers(engine: Engine) -> dict[str, float]:
    return {
        f"{kind}, {question}": milliseconds(
            partial(search, engine, f'label:"{label}"{more}', RECIPE.digest, limit=50, **options)
        )
        for kind, label in ASKED.items()
        for question, (more, options) in QUESTIONS.items()
    }


def covered(engine: Engine) -> None:
    """What every answer says of how much is indexed: all results are counted for it, the first time."""
    with reading(engine) as connection:
        connection.info.clear()
        coverage(connection, searched_recipes(connection, RECIPE.digest, None))


def label_counts(engine: Engine) -> None:
    with reading(engine) as connection:
        connection.execute(text("SELECT label_id, sum(n) FROM label_stat WHERE recipe_id = 1 GROUP BY label_id")).all()


def settle(server: Postgres, database: str) -> None:
    """Wait until its autovacuum has come, as it does by itself: it looks once a minute, and stays until it is done."""
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    naptime_seconds = 61.0
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < naptime_seconds:
        time.sleep(0.5)
        if server.execute(at_work, database=database)[0][0]:
            quiet_since = time.monotonic()


def measure(
    url: str, segments: int, size_bytes: Callable[[], int], settle: Callable[[], None] = lambda: None
) -> dict[str, object]:
    engine = open_catalog(url, create=True)
    count = segments // PER_VIDEO
    with acquire(engine, "benchmark") as lease:
        run = start_run(engine, lease=lease, recipe=RECIPE, labels=LABELS)
        figures: dict[str, object] = {**load(engine, run, count)}
        figures["bytes_per_segment"] = round(size_bytes() / (count * PER_VIDEO), 1)
        began = time.perf_counter()
        settle()
        figures["seconds_until_settled"] = round(time.perf_counter() - began)
        figures["answers_ms"] = answers(engine)
        figures["more_when_something_has_changed_ms"] = milliseconds(lambda: covered(engine))
        figures["label_counts_ms"] = milliseconds(lambda: label_counts(engine))
        figures["status_ms"] = milliseconds(lambda: totals(engine, run.recipe_id))
        gone = [one.video.uri for one in next(videos(count))[:500]]
        began = time.perf_counter()
        mark_gone(engine, run, gone)
        figures["ms_per_video_removed"] = round((time.perf_counter() - began) * 1000 / len(gone), 2)
    engine.dispose()
    return figures


def file_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def main(segments: int = SEGMENTS) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "catalog.db"
        on_sqlite = measure(f"sqlite:///{file}", segments, lambda: file_bytes(file))
    with tempfile.TemporaryDirectory(prefix="indexer-") as folder:
        server = Postgres(Path(folder) / "data")
        try:
            database = server.database()
            size = f"SELECT pg_database_size('{database}') - pg_database_size('template0')"
            url = server.url(database)
            on_postgresql = measure(url, segments, lambda: server.execute(size)[0][0], lambda: settle(server, database))
        finally:
            server.stop()
    return {"segments": segments, "sqlite": on_sqlite, "postgresql": on_postgresql}
