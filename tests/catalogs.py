"""Small catalogs, and the runs that fill them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
from sqlalchemy import Engine

from indexer.catalog.commit import CommitReport, RunRef, claim, commit, start_run
from indexer.catalog.connect import reading
from indexer.catalog.lease import acquire
from indexer.records import Failure, IndexedVideo, MediaInfo, Outcome, Part, Recipe, Segment, Video
from tests.dump import canonical_dump

LABELS = ("archery", "bowling", "yoga")
RECIPES = {"A": Recipe("aa" * 32, '{"model":"r3d_18"}'), "B": Recipe("bb" * 32, '{"model":"s3d"}')}

Rows = tuple[tuple[str, float], ...]


def video(name: str, fingerprint: str = "1") -> Video:
    return Video(f"/archive/{name}", fingerprint, size_bytes=100, modified_at=5.0)


def indexed(name: str, fingerprint: str, *rows: tuple[str, float]) -> IndexedVideo:
    """A video whose segments, ten seconds each, have one label."""
    segments = tuple(
        Segment(10_000 * i, 10_000 * i + 10_000, 2, (label,), (score,), np.array([score, i, 1, 0], np.float16))
        for i, (label, score) in enumerate(rows)
    )
    return IndexedVideo(video(name, fingerprint), MediaInfo(0, 10.0 * len(rows), 320, 240, "h264", 25.0), segments, ("W_X",))


def failed(name: str, fingerprint: str = "1", message: str = "no moov box") -> Failure:
    return Failure(video(name, fingerprint), "E_TRUNCATED", message)


def a_part(outcomes: Sequence[Outcome]) -> Part | None:
    """A part that exists on paper only."""
    rows = [len(outcome.segments) for outcome in outcomes if isinstance(outcome, IndexedVideo)]
    return Part(f"parts/{uuid4().hex}.parquet", sum(rows), 10 * sum(rows), "00") if rows else None


def start(engine: Engine, recipe: str = "A", *, job: str | None = None) -> RunRef:
    """A run of a job of its own, unless one is named: runs of different jobs may be at work at the same time."""
    lease = acquire(engine, job or uuid4().hex)
    return start_run(engine, lease=lease, recipe=RECIPES[recipe], labels=LABELS)


def index(engine: Engine, *outcomes: Outcome, run: RunRef | None = None, source: str = "/archive") -> CommitReport:
    """Claim and commit in one go."""
    run = run or start(engine)
    claim(engine, run, source, [outcome.video for outcome in outcomes])
    return commit(engine, run, a_part(outcomes), outcomes)


def stats(engine: Engine) -> dict[tuple[str, str, int], int]:
    """(recipe letter, label, bucket) -> n"""
    query = """SELECT substr(digest, 1, 1), name, bucket, n FROM label_stat
               JOIN recipe ON recipe.id = recipe_id JOIN label ON label.id = label_id"""
    with reading(engine) as connection:
        return {(row[0].upper(), row[1], row[2]): row[3] for row in connection.exec_driver_sql(query)}


def part_states(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.exec_driver_sql("SELECT state FROM part ORDER BY id").scalars())


def shown(engine: Engine) -> dict[tuple[str, str], tuple[str, Rows]]:
    """(file name, recipe letter) -> state, rows as (label, score)"""
    return {
        (result["uri"].removeprefix("/archive/"), result["digest"][0].upper()): (
            result["state"],
            tuple((label, score / 10_000) for _, _, label, score in result["rows"]),
        )
        for result in canonical_dump(engine)
    }
