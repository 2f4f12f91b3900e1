"""A part, read back: Parquet -> the indexed videos that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.records import IndexedVideo, Segment
from indexer.write.footer import Footer
from indexer.write.schema import arrow_schema

UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError, TypeError)
"""What comes out of a file that is no whole part."""


def read_footer(file: BinaryIO) -> Footer:
    """What the footer of a part says; no row is read. Raises one of UNREADABLE if it is no part, or damaged there."""
    with pq.ParquetFile(file) as part:
        footer = Footer.of_metadata(part.schema_arrow.metadata)
        if footer.rows != part.metadata.num_rows:
            raise ValueError(f"the footer tells of {footer.rows:,} rows, and there are {part.metadata.num_rows:,}")
    return footer


def read_videos(file: BinaryIO, *, embeddings: bool = True) -> Iterator[IndexedVideo]:
    """The videos of a part, by uri. Raises one of UNREADABLE if it is no whole part.

    Their `info.start_seconds` is the start of the first segment: a part does not keep more. Without `embeddings`, which are
    most of the bytes, those have no numbers in them.
    """
    footer = read_footer(file)
    columns = [name for name in arrow_schema(1).names if embeddings or name != "embedding"]
    with pq.ParquetFile(file) as part:
        table = part.read(columns=columns)
    rows = table.select([name for name in columns if name != "embedding"]).to_pylist()
    vectors = _matrix(table.column("embedding")) if embeddings else np.empty((len(rows), 0), np.float16)
    first = 0
    for video in footer.videos:
        stop = first + video.rows
        segments = tuple(_segment(row, vector) for row, vector in zip(rows[first:stop], vectors[first:stop], strict=True))
        if any(row["uri"] != video.uri for row in rows[first:stop]):
            raise ValueError(f"rows of another video stand where those of {video.uri} should be")
        yield IndexedVideo(video.video, video.info(segments[0].start_ms), segments, video.warnings)
        first = stop


def _matrix(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float16]]:
    """[rows, width]"""
    flat: np.ndarray[Any, np.dtype[np.float16]] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _segment(row: dict[str, Any], embedding: np.ndarray[Any, np.dtype[np.float16]]) -> Segment:
    return Segment(
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        clips=row["clips"],
        labels=tuple(row["labels"]),
        scores=tuple(row["scores"]),
        embedding=embedding,
    )
