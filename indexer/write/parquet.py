"""Indexed videos -> one Part: a Parquet file under a name nobody else uses, durable but not yet visible."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.records import IndexedVideo, Part, Recipe
from indexer.storage import Storage
from indexer.write.schema import to_table

FOLDER = "parts/"
_PART_NAME = re.compile(r"parts/part-\d+-(\d+|rewritten)-\w+\.parquet")
_ROW_GROUP_ROWS = 16_384
_REPEATING = ["uri", "fingerprint", "labels.list.element"]
"""Leaf columns with few distinct values: a dictionary pays. Never the embedding, which repeats nothing."""


def write_part(
    videos: Sequence[IndexedVideo],
    storage: Storage,
    *,
    recipe: Recipe,
    run_id: int,
    sequence: int,
    labels: Sequence[str] = (),
) -> Part:
    """Write all segments of `videos` to one new file. OutputError if that fails; then there is no file.

    `sequence` counts the parts of a run. `labels` are all classes of the model, in its order: without them the part cannot
    be told of in a new catalog.
    """
    table = to_table(videos, recipe=recipe, run_id=run_id, labels=labels)
    return write_table(table, storage, part_name(run_id, sequence))


def is_part_name(name: str) -> bool:
    """Whether a file of this name is a part. What else people put there is none of our business."""
    return _PART_NAME.fullmatch(name) is not None


def part_name(run_id: int, sequence: int | None) -> str:
    """A name that nobody else uses: its random end keeps a repeated attempt, or a run that is thought dead and is not, from
    ever touching a file that exists. Without a sequence, that of a part made of others, which comes after those of the run."""
    number = "rewritten" if sequence is None else f"{sequence:04d}"
    return f"{FOLDER}part-{run_id:06d}-{number}-{uuid.uuid4().hex[:8]}.parquet"


def write_table(table: pa.Table, storage: Storage, name: str) -> Part:
    """Write rows of the part schema to a new file. OutputError if that fails; then there is no file."""
    with storage.create(name) as file:
        measured = _Measured(file)
        pq.write_table(
            table,
            pa.PythonFile(measured, mode="w"),
            row_group_size=_ROW_GROUP_ROWS,
            compression=_compression(table.schema),
            use_dictionary=_REPEATING,
            write_statistics=["uri", "fingerprint", "start_ms", "end_ms"],
            sorting_columns=[pq.SortingColumn(0), pq.SortingColumn(2)],
        )
    return Part(name=name, rows=table.num_rows, size_bytes=measured.size_bytes, sha256=measured.digest.hexdigest())


def _compression(schema: pa.Schema) -> dict[str, str]:
    """zstd, but not for embeddings: it saves 8 % of them and makes reading them 1.4 times slower."""
    leaves = {"labels": "labels.list.element", "scores": "scores.list.element", "embedding": "embedding.list.element"}
    return {leaves.get(name, name): "NONE" if name == "embedding" else "ZSTD" for name in schema.names}


class _Measured:
    """A file that knows the size and sha256 of what was written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """The storage closes its file, after making it durable."""
