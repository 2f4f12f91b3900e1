"""The rows of a part as arrays, and whether they are what a part promises: for comparing them with the SQL index."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.write.footer import Footer
from indexer.write.read import read_footer
from indexer.write.schema import arrow_schema

_COMPARED = ("uri", "fingerprint", "start_ms", "end_ms", "clips", "labels", "scores")


@dataclass(frozen=True, slots=True)
class PartHits:
    """Every label of every row, in the order of the file."""

    footer: Footer
    clips: NDArray[np.int64]
    """[videos], of all rows of each video of the footer."""
    video: NDArray[np.int64]
    """[hits], which video of the footer it is of."""
    names: list[str]
    name: NDArray[np.int64]
    """[hits], which of `names`."""
    start_ms: NDArray[np.int64]
    end_ms: NDArray[np.int64]
    score: NDArray[np.int64]
    """[hits], ten-thousandths, as in the catalog."""


def read_hits(file: BinaryIO) -> PartHits:
    """Read a part, without its embeddings. Raises one of UNREADABLE, with a sentence where the rows break a promise."""
    footer = read_footer(file)
    with pq.ParquetFile(file) as part:
        _check_schema(part.schema_arrow)
        table = part.read(columns=list(_COMPARED)).combine_chunks()
    rows = np.array([video.rows for video in footer.videos])
    video = np.repeat(np.arange(len(rows)), rows)
    for column in ("uri", "fingerprint"):
        promised = pa.array([getattr(one, column) for one in footer.videos], pa.string()).take(pa.array(video))
        if not table.column(column).combine_chunks().equals(promised):
            raise ValueError(f"its rows do not have the {column} that the footer gives them")
    start_ms, end_ms = _numbers(table, "start_ms"), _numbers(table, "end_ms")
    same_video = np.diff(video) == 0
    if (end_ms <= start_ms).any() or (np.diff(start_ms)[same_video] <= 0).any() or not _rises(footer):
        raise ValueError("its rows are not sorted by uri and start_ms")
    labels, scores = (table.column(name).combine_chunks() for name in ("labels", "scores"))
    counts = np.diff(labels.offsets.to_numpy())
    if not np.array_equal(counts, np.diff(scores.offsets.to_numpy())):
        raise ValueError("a row has not as many scores as labels")
    named = labels.flatten().dictionary_encode()
    return PartHits(
        footer=footer,
        clips=np.bincount(video, weights=_numbers(table, "clips"), minlength=len(rows)).astype(np.int64),
        video=np.repeat(video, counts),
        names=named.dictionary.to_pylist(),
        name=named.indices.to_numpy().astype(np.int64),
        start_ms=np.repeat(start_ms, counts),
        end_ms=np.repeat(end_ms, counts),
        score=np.rint(10_000 * scores.flatten().to_numpy().astype(np.float64)).astype(np.int64),
    )


def _check_schema(found: pa.Schema) -> None:
    embedding = found.field("embedding").type if "embedding" in found.names else pa.null()
    if not pa.types.is_fixed_size_list(embedding) or not found.equals(arrow_schema(embedding.list_size)):
        raise ValueError("its columns are not those of a part")


def _rises(footer: Footer) -> bool:
    return all(before.uri < after.uri for before, after in pairwise(footer.videos))


def _numbers(table: pa.Table, column: str) -> NDArray[np.int64]:
    numbers: NDArray[Any] = table.column(column).to_numpy()
    return numbers.astype(np.int64)
