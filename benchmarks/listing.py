"""A night on a large archive: listing it and comparing it with what is known, where nothing or little has changed.

    python -m benchmarks listing 100_000             videos; 1,000,000 without a number

Real files, empty, a thousand in a folder, and a catalog that has indexed them all: an SQLite file, then PostgreSQL as it
comes. `indexer run`, with nothing to do, and `indexer plan`, after 300 videos are gone, 300 changed and 400 new, are processes
of their own, of which the peak memory is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text

from indexer.catalog.commit import start_run
from indexer.catalog.connect import open_catalog, writing
from indexer.catalog.lease import acquire
from indexer.config import load_job
from indexer.recipe import make_recipe
from tests.postgres import Postgres

VIDEOS = 1_000_000
PER_FOLDER = 1_000
MODIFIED_NS = 1_700_000_000_000_000_000
GONE, CHANGED, NEW = 300, 300, 400

_VIDEOS = text(
    "INSERT INTO video (uri, source, fingerprint, size_bytes, modified_at)"
    " WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)"
    f" SELECT :source || '/' || (1000000 + n / {PER_FOLDER}) || '/tape ' || (10000000 + n) || '.mp4',"
    " :source, :fingerprint, 0, 1.7e9 FROM numbers"
)
_RESULTS = text(
    "INSERT INTO result (video_id, recipe_id, state, attempts, fingerprint, segments, clips, warnings, updated_at)"
    " SELECT id, :recipe_id, 'indexed', 1, fingerprint, 0, 0, '[]', 0 FROM video"
)


def tape(folder: Path, number: int) -> str:
    return f"{folder}/{1_000_000 + number // PER_FOLDER}/tape {10_000_000 + number}.mp4"


def make_videos(folder: Path, count: int) -> None:
    for number in range(count):
        path = tape(folder, number)
        if number % PER_FOLDER == 0:
            Path(path).parent.mkdir(parents=True)
        os.close(os.open(path, os.O_CREAT))
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))


def change_some(folder: Path, count: int) -> None:
    for number in range(GONE):
        os.unlink(tape(folder, number * (count // GONE)))  # noqa: PTH108
    for number in range(CHANGED):
        os.utime(tape(folder, number * (count // CHANGED) + 1), ns=(MODIFIED_NS, MODIFIED_NS + 10**9))
    for number in range(NEW):
        Path(f"{folder}/new {number}.mp4").touch()


def change_back(folder: Path, count: int) -> None:
    for number in range(GONE):
        path = tape(folder, number * (count // GONE))
        Path(path).touch()
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
    for number in range(CHANGED):
        os.utime(tape(folder, number * (count // CHANGED) + 1), ns=(MODIFIED_NS, MODIFIED_NS))
    for number in range(NEW):
        Path(f"{folder}/new {number}.mp4").unlink()


def fill(path: Path, count: int) -> None:
    job = load_job(path)
    engine = open_catalog(job.output.catalog, create=True)
    with acquire(engine, job.name) as lease:
        run = start_run(engine, lease=lease, recipe=make_recipe(job), labels=["yoga"])
    fingerprint = f"0-{MODIFIED_NS}"
    with writing(engine) as connection:
        connection.execute(_VIDEOS, {"count": count, "source": job.source.uri, "fingerprint": fingerprint})
        connection.execute(_RESULTS, {"recipe_id": run.recipe_id})
        if engine.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))  # which its autovacuum does by itself, some time
    engine.dispose()


def command(*words: str) -> tuple[dict[str, Any], dict[str, float]]:
    """The last JSON document that `indexer WORDS --json` prints; its wall seconds and peak memory."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "indexer", *words, "--json"], stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        assert process.returncode == 0, words
        out.seek(0)
        printed = out.read()
    document = json.loads(printed if printed.startswith("{\n") else printed.splitlines()[-1])
    return document, {"wall_seconds": round(wall, 1), "peak_MB": round(used.ru_maxrss / 1000)}


def measure(job_path: Path, folder: Path, catalog: str, count: int) -> dict[str, Any]:
    job = {
        "name": "nightly",
        "source": {"uri": str(folder), "min_age": "0s"},
        "model": {"name": "r3d_18", "weights": "random"},
        "output": {"uri": "index", "catalog": catalog},
    }
    job_path.write_text(yaml.safe_dump(job))
    fill(job_path, count)
    event, night = command("run", str(job_path))
    assert event["videos"]["unchanged"] == count, event
    change_some(folder, count)
    planned, changes = command("plan", str(job_path))
    change_back(folder, count)
    found = {name: planned["videos"][name] for name in ("unchanged", "new", "changed", "gone")}
    assert found == {"unchanged": count - GONE - CHANGED, "new": NEW, "changed": CHANGED, "gone": GONE}, found
    return {"nothing_changed": night | {"list_seconds": event["stages"]["list"]}, "some_changed": changes}


def main(count: int = VIDEOS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="indexer-") as folder:
        videos, job_path = Path(folder) / "videos", Path(folder) / "job.yaml"
        make_videos(videos, count)
        on_sqlite = measure(job_path, videos, "sqlite:///catalog.db", count)
        server = Postgres(Path(folder) / "data")
        try:
            on_postgresql = measure(job_path, videos, server.url(server.database()), count)
        finally:
            server.stop()
    return {
        "videos": count,
        "sqlite": on_sqlite,
        "postgresql": on_postgresql,
    }
