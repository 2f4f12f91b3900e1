"""A part, read back: Parquet -> the indexed videos that it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq

from indexer.records import IndexedVideo, MediaInfo, Segment, Video


def read_videos(file: BinaryIO) -> Iterator[IndexedVideo]:
    """The videos of a part, by uri. Raises pyarrow.ArrowException, KeyError or ValueError if it is no whole part.

    Their `info.start_seconds` is the start of the first segment: a part does not keep more.
    """
    with pq.ParquetFile(file) as part:
        described = json.loads(part.schema_arrow.metadata[b"indexer.videos"])
        table = part.read()
    if sum(video["rows"] for video in described) != table.num_rows:
        raise ValueError(f"the footer tells of other rows than the {table.num_rows} that there are")
    rows = table.drop_columns(["embedding"]).to_pylist()
    column = table.column("embedding").combine_chunks()
    embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    first = 0
    for video in described:
        stop = first + video["rows"]
        segments = tuple(_segment(row, vector) for row, vector in zip(rows[first:stop], embeddings[first:stop], strict=True))
        if any(row["uri"] != video["uri"] for row in rows[first:stop]):
            raise ValueError(f"rows of another video stand where those of {video['uri']} should be")
        yield _indexed(video, segments)
        first = stop


def _indexed(video: dict[str, Any], segments: tuple[Segment, ...]) -> IndexedVideo:
    return IndexedVideo(
        video=Video(video["uri"], video["fingerprint"], video["size_bytes"], video["modified_at"]),
        info=MediaInfo(
            start_seconds=segments[0].start_ms / 1000,
            duration_seconds=video["duration_ms"] / 1000,
            width=video["width"],
            height=video["height"],
            codec=video["codec"],
            average_fps=video["average_fps"],
        ),
        segments=segments,
        warnings=tuple(video["warnings"]),
    )


def _segment(row: dict[str, Any], embedding: np.ndarray[Any, np.dtype[np.float16]]) -> Segment:
    return Segment(
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        clips=row["clips"],
        labels=tuple(row["labels"]),
        scores=tuple(row["scores"]),
        embedding=embedding,
    )
