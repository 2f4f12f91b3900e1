"""Whether two indexes say the same: states, hits and scores as their catalogs have them, embeddings as their parts do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import text

from demo.topology import Failed
from indexer.catalog.connect import open_catalog

CLOSE = 0.001
"""How far two embeddings may lie apart, as a share of their length: what the last bit of float16 makes of the same numbers."""

_RESULTS = text("""
    SELECT video.uri, result.state, result.code, hit.start_ms, hit.end_ms, label.name, hit.score
    FROM result JOIN video ON video.id = result.video_id LEFT JOIN hit ON hit.video_id = video.id
         LEFT JOIN label ON label.id = hit.label_id
""")
_LIVE = text("SELECT part.name, video.uri FROM result JOIN part ON part.id = result.part_id JOIN video ON video.id = video_id")
Results = dict[tuple[Any, ...], int | None]
"""(video, state, code, start, end, label) -> score, in whole numbers of 0.0001."""
Embeddings = dict[tuple[str, int], NDArray[np.float32]]
"""(video, start) -> embedding."""


@dataclass(frozen=True)
class Indexed:
    """All that an index says. Videos are called as below their source."""

    results: Results
    embeddings: Embeddings


def read_index(catalog: str, source: str, folder: str, files: pyarrow.fs.FileSystem) -> Indexed:
    """`folder` of `files` holds the index of the videos below `source`. Raises Failed if there is none."""
    engine = open_catalog(catalog, create=False, read_only=True)
    if engine is None:
        raise Failed(f"there is no catalog of {source}")
    try:
        with engine.connect() as connection:
            results = {(row.uri.removeprefix(source), *row[1:-1]): row.score for row in connection.execute(_RESULTS)}
            live = {(name, uri) for name, uri in connection.execute(_LIVE)}
    finally:
        engine.dispose()
    embeddings = {}
    for name in sorted({name for name, _ in live}):
        table = pq.read_table(f"{folder}/{name}", columns=["uri", "start_ms", "embedding"], filesystem=files)
        for uri, start_ms, embedding in zip(*map(pa.ChunkedArray.to_pylist, table.columns), strict=True):
            if (name, uri) in live:
                embeddings[uri.removeprefix(source), start_ms] = np.array(embedding, np.float32)
    return Indexed(results, embeddings)


def differences(expected: Indexed, found: Indexed) -> list[str]:
    """A sentence for each."""
    sentences = []
    for key in sorted(expected.results.keys() | found.results.keys(), key=str):
        one, other = (index.results.get(key, "nothing") for index in (expected, found))
        if one != other:
            sentences.append(f"{key}: {one} undisturbed, {other} on the cluster")
    for place in sorted(expected.embeddings.keys() | found.embeddings.keys()):
        one, other = (index.embeddings.get(place) for index in (expected, found))
        if one is None or other is None:
            sentences.append(f"{place}: an embedding in one of them only")
        elif (apart := float(np.linalg.norm(one - other) / np.linalg.norm(one))) > CLOSE:
            sentences.append(f"{place}: embeddings that differ by {apart:.1%}")
    return sentences
