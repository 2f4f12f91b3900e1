"""The columns of a part, and what its footer says.

Whoever reads a part with another tool reads this file first; `schemas/part.schema.txt` is its rendering.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from indexer.records import IndexedVideo, Recipe

SCHEMA_VERSION = 1
"""Raised when a reader of older parts would have to know. New footer keys do not count."""

_FOOTER = {
    "indexer.schema_version": "version of this layout, a whole number",
    "indexer.recipe": "JSON: everything that shaped these rows (model, weights, sampling)",
    "indexer.recipe_digest": "sha256 of indexer.recipe, hex",
    "indexer.run_id": "the run that wrote the part",
    "indexer.videos": "JSON list, by uri: uri, fingerprint, rows, size_bytes, modified_at, duration_ms, width, height,"
    " codec, average_fps, warnings",
}


def arrow_schema(embedding_width: int) -> pa.Schema:
    """The columns of a part whose model gives embeddings of this width."""
    texts = pa.list_(pa.field("element", pa.string(), nullable=False))
    numbers = pa.list_(pa.field("element", pa.float32(), nullable=False))
    vector = pa.list_(pa.field("element", pa.float16(), nullable=False), embedding_width)
    return pa.schema(
        [
            pa.field("uri", pa.string(), nullable=False),
            pa.field("fingerprint", pa.string(), nullable=False),
            pa.field("start_ms", pa.int32(), nullable=False),
            pa.field("end_ms", pa.int32(), nullable=False),
            pa.field("clips", pa.int16(), nullable=False),
            pa.field("labels", texts, nullable=False),
            pa.field("scores", numbers, nullable=False),
            pa.field("embedding", vector, nullable=False),
        ]
    )


def to_table(videos: Sequence[IndexedVideo], *, recipe: Recipe, run_id: int) -> pa.Table:
    """One row per segment, sorted by uri and start_ms, with the footer as schema metadata.

    Every video has at least one segment, and all embeddings have one width: ValueError otherwise.
    """
    videos = sorted(videos, key=lambda indexed: indexed.video.uri)
    empty = [indexed.video.uri for indexed in videos if not indexed.segments]
    if empty or not videos:
        raise ValueError(f"no segments to write: {empty}")
    ordered = [(indexed.video, sorted(indexed.segments, key=lambda segment: segment.start_ms)) for indexed in videos]
    segments = [segment for _, group in ordered for segment in group]
    embeddings = np.stack([segment.embedding for segment in segments]).astype(np.float16, copy=False)
    width = embeddings.shape[1]
    schema = arrow_schema(width)
    ends = np.cumsum([0] + [len(segment.labels) for segment in segments], dtype=np.int32)
    labels = pa.array([label for segment in segments for label in segment.labels], pa.string())
    scores = pa.array(np.array([score for segment in segments for score in segment.scores], np.float32))
    if len(labels) != len(scores):
        raise ValueError(f"{len(labels)} labels have {len(scores)} scores")
    columns = [
        pa.array([video.uri for video, group in ordered for _ in group], pa.string()),
        pa.array([video.fingerprint for video, group in ordered for _ in group], pa.string()),
        pa.array([segment.start_ms for segment in segments], pa.int32()),
        pa.array([segment.end_ms for segment in segments], pa.int32()),
        pa.array([segment.clips for segment in segments], pa.int16()),
        pa.ListArray.from_arrays(ends, labels, type=schema.field("labels").type),
        pa.ListArray.from_arrays(ends, scores, type=schema.field("scores").type),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), type=schema.field("embedding").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(_footer(videos, recipe, run_id)))


def describe() -> str:
    """The schema in words, for `schemas/part.schema.txt`."""
    lines = [f"Parquet part, schema version {SCHEMA_VERSION}. One row per segment, sorted by uri, start_ms.", ""]
    lines += [f"{field.name:12} {_type_name(field.type)}" for field in arrow_schema(1)]
    lines += ["", "Nothing is null. WIDTH is the width of the model's last linear layer. Footer metadata:", ""]
    lines += [f"{key:23} {meaning}" for key, meaning in _FOOTER.items()]
    return "\n".join(lines) + "\n"


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_type_name(kind.value_type)}>[WIDTH]"
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return {pa.float32(): "float32", pa.float16(): "float16"}.get(kind, str(kind))


def _footer(videos: Iterable[IndexedVideo], recipe: Recipe, run_id: int) -> dict[str, str]:
    """Enough to rebuild the SQL index from parts alone: what the rows do not say about their videos is here."""
    described = [
        {
            "uri": indexed.video.uri,
            "fingerprint": indexed.video.fingerprint,
            "rows": len(indexed.segments),
            "size_bytes": indexed.video.size_bytes,
            "modified_at": indexed.video.modified_at,
            "duration_ms": round(1000 * indexed.info.duration_seconds),
            "width": indexed.info.width,
            "height": indexed.info.height,
            "codec": indexed.info.codec,
            "average_fps": indexed.info.average_fps,
            "warnings": list(indexed.warnings),
        }
        for indexed in videos
    ]
    values = (str(SCHEMA_VERSION), recipe.document, recipe.digest, str(run_id), json.dumps(described, ensure_ascii=False))
    return dict(zip(_FOOTER, values, strict=True))
