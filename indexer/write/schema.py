"""The columns of a part, and what its footer says.

Whoever reads a part with another tool reads this file first; `schemas/part.schema.txt` is its rendering.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from indexer.records import IndexedVideo, Recipe
from indexer.write.footer import KEYS, SCHEMA_VERSION, Footer, PartVideo


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


def to_table(videos: Sequence[IndexedVideo], *, recipe: Recipe, run_id: int, labels: Sequence[str] = ()) -> pa.Table:
    """One row per segment, sorted by uri and start_ms, with the footer as schema metadata.

    `labels` are all classes of the model, in its order; only what is no part in the end does without.
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
    names = pa.array([label for segment in segments for label in segment.labels], pa.string())
    scores = pa.array(np.array([score for segment in segments for score in segment.scores], np.float32))
    if len(names) != len(scores):
        raise ValueError(f"{len(names)} labels have {len(scores)} scores")
    columns = [
        pa.array([video.uri for video, group in ordered for _ in group], pa.string()),
        pa.array([video.fingerprint for video, group in ordered for _ in group], pa.string()),
        pa.array([segment.start_ms for segment in segments], pa.int32()),
        pa.array([segment.end_ms for segment in segments], pa.int32()),
        pa.array([segment.clips for segment in segments], pa.int16()),
        pa.ListArray.from_arrays(ends, names, type=schema.field("labels").type),
        pa.ListArray.from_arrays(ends, scores, type=schema.field("scores").type),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), type=schema.field("embedding").type),
    ]
    footer = Footer(recipe, run_id, tuple(labels), tuple(PartVideo.of(indexed, run_id) for indexed in videos))
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(footer.as_metadata()))


def describe() -> str:
    """The schema in words, for `schemas/part.schema.txt`."""
    lines = [f"Parquet part, schema version {SCHEMA_VERSION}. One row per segment, sorted by uri, start_ms.", ""]
    lines += [f"{field.name:12} {_type_name(field.type)}" for field in arrow_schema(1)]
    lines += ["", "Nothing is null. WIDTH is the width of the model's last linear layer. Footer metadata:", ""]
    lines += [f"{key:23} {meaning}" for key, meaning in KEYS.items()]
    return "\n".join(lines) + "\n"


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_type_name(kind.value_type)}>[WIDTH]"
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return {pa.float32(): "float32", pa.float16(): "float16"}.get(kind, str(kind))
