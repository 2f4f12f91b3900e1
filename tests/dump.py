"""What an index means, without the accidents of how it came about: two indexes are the same if their dumps are equal.

No ids, file names, times, counts of attempts or order of commits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sqlalchemy import Engine, create_engine, text

RESULTS = """
    SELECT video.uri, recipe.digest, CASE WHEN video.gone_at IS NULL THEN result.state ELSE 'gone' END AS state, result.code,
           result.fingerprint, result.indexed_fingerprint, result.segments, result.clips, result.warnings
    FROM result JOIN video ON video.id = result.video_id JOIN recipe ON recipe.id = result.recipe_id
"""
HITS = """
    SELECT video.uri, recipe.digest, hit.start_ms, hit.end_ms, label.name, hit.score
    FROM hit JOIN video ON video.id = hit.video_id JOIN recipe ON recipe.id = hit.recipe_id
         JOIN label ON label.id = hit.label_id
"""
LIVE_PARTS = """
    SELECT part.name, video.uri, recipe.digest, part.rows, part.bytes
    FROM result JOIN part ON part.id = result.part_id JOIN video ON video.id = result.video_id
         JOIN recipe ON recipe.id = result.recipe_id
"""
COUNTS = """
    SELECT recipe_id, label_id, CASE WHEN score >= 10000 THEN 9 ELSE score / 1000 END AS bucket, count(*)
    FROM hit GROUP BY 1, 2, 3
"""


def canonical_dump(engine_or_url: Engine | str) -> list[dict[str, Any]]:
    """Every result with its live rows, sorted: what SQL says."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for uri, digest, *row in _query(engine_or_url, HITS):
        rows.setdefault((uri, digest), []).append(tuple(row))
    dump = [
        {**result, "warnings": json.loads(result["warnings"]), "rows": sorted(rows.pop((result["uri"], result["digest"]), []))}
        for result in (row._asdict() for row in _query(engine_or_url, RESULTS))
    ]
    assert not rows, f"hits without a result: {rows}"
    return sorted(dump, key=lambda result: (result["uri"], result["digest"]))


def live_rows(engine_or_url: Engine | str) -> list[tuple[Any, ...]]:
    """(uri, recipe digest, start_ms, end_ms, label, score) of every live hit, sorted: what SQL says."""
    return sorted(tuple(row) for row in _query(engine_or_url, HITS))


def live_rows_of_parts(engine_or_url: Engine | str, root: Path) -> list[tuple[Any, ...]]:
    """The same, read from the Parquet files below `root` that results name: what the data says."""
    found = []
    for name, uri, digest, num_rows, num_bytes in _query(engine_or_url, LIVE_PARTS):
        assert (root / name).stat().st_size == num_bytes
        table = pq.read_table(root / name)
        assert len(table) == num_rows
        for row in table.to_pylist():
            if row["uri"] == uri:
                scores = [round(10_000 * score) for score in row["scores"]]
                found += [
                    (uri, digest, row["start_ms"], row["end_ms"], label, score)
                    for label, score in zip(row["labels"], scores, strict=True)
                ]
    return sorted(found)


def assert_sound(engine_or_url: Engine | str) -> None:
    """What must hold after every transaction, whatever happened before."""
    counted = {tuple(row[:3]): row[3] for row in _query(engine_or_url, COUNTS)}
    kept = {tuple(row[:3]): row[3] for row in _query(engine_or_url, "SELECT recipe_id, label_id, bucket, n FROM label_stat")}
    assert kept == counted
    named = {row[0] for row in _query(engine_or_url, "SELECT DISTINCT part_id FROM result WHERE part_id IS NOT NULL")}
    live = {row[0] for row in _query(engine_or_url, "SELECT id FROM part WHERE state = 'live'")}
    assert live == named
    mixed = """
        SELECT uri FROM result JOIN video ON video.id = result.video_id
        WHERE indexed_fingerprint <> video.fingerprint
           OR (part_id IS NULL) <> (indexed_fingerprint IS NULL)
           OR (state = 'indexed' AND (part_id IS NULL OR result.fingerprint <> indexed_fingerprint))
           OR (state IN ('failed', 'skipped') AND part_id IS NOT NULL)
    """
    assert _query(engine_or_url, mixed) == []


def _query(engine_or_url: Engine | str, statement: str) -> Sequence[Any]:
    engine = create_engine(engine_or_url) if isinstance(engine_or_url, str) else engine_or_url
    try:
        with engine.connect() as connection:
            return connection.execute(text(statement)).all()
    finally:
        if engine is not engine_or_url:
            engine.dispose()
