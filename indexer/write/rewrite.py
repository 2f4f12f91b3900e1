"""Parts made of parts: the rows of chosen videos, copied as they are into one new file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import OutputError
from indexer.records import Part
from indexer.storage import Storage
from indexer.write.footer import Footer, PartVideo
from indexer.write.parquet import part_name, write_table
from indexer.write.read import UNREADABLE, read_footer


class Copied(NamedTuple):
    """What to take from one part."""

    name: str
    sha256: str
    """Of the file, as the catalog knows it: damage must not be copied, and then be signed anew."""
    uris: Sequence[str]


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """What was taken from one part, in memory."""

    footer: Footer
    pieces: list[tuple[PartVideo, pa.Table]]


def rewrite(storage: Storage, chosen: Iterable[Copied]) -> Part:
    """Write one new part of rows of others. See `copy_rows` and `write_rows`."""
    return write_rows(storage, [copy_rows(storage, one) for one in chosen])


def copy_rows(storage: Storage, one: Copied) -> CopiedRows:
    """Take rows from a part. Raises OutputError if it cannot be read, or is damaged."""
    try:
        return CopiedRows(*_copy(storage, one))
    except UNREADABLE as error:
        raise OutputError(
            f"{storage.uri}/{one.name} is damaged: {error}. `indexer check JOB --deep --repair` lets the next run make its"
            " videos again."
        ) from error


def write_rows(storage: Storage, copied: Sequence[CopiedRows]) -> Part:
    """Write one new part of rows of others, which are of one recipe and have no uri in common.

    Every video keeps the run that indexed it. What is held in memory is the rows that are copied, and one part more.
    Raises OutputError.
    """
    pieces = sorted((piece for one in copied for piece in one.pieces), key=lambda piece: piece[0].uri)
    videos = tuple(video for video, _ in pieces)
    run_id = max(video.run_id for video in videos)
    footer = copied[-1].footer
    metadata = Footer(footer.recipe, run_id, footer.labels, videos).as_metadata()
    table = pa.concat_tables(rows for _, rows in pieces).replace_schema_metadata(metadata)
    return write_table(table, storage, part_name(run_id, None))


def _copy(storage: Storage, one: Copied) -> tuple[Footer, list[tuple[PartVideo, pa.Table]]]:
    """The footer of a part, and the rows of the chosen videos of it."""
    with storage.open(one.name) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != one.sha256:
        raise ValueError("its bytes are not those that were written")
    footer = read_footer(pa.BufferReader(content))
    table = pq.read_table(pa.BufferReader(content)).replace_schema_metadata(None)
    wanted = set(one.uris)
    first = 0
    places: list[tuple[PartVideo, int]] = []
    for video in footer.videos:
        if video.uri in wanted:
            places.append((video, first))
        first += video.rows
    if missing := wanted - {video.uri for video, _ in places}:
        raise ValueError(f"it has no rows of {min(missing)}")
    if len(places) < len(footer.videos):  # what is left behind must not stay in memory
        table = table.take(np.concatenate([np.arange(first, first + video.rows) for video, first in places]))
        ends = np.cumsum([video.rows for video, _ in places])
        places = [(video, int(end) - video.rows) for (video, _), end in zip(places, ends, strict=True)]
    return footer, [(video, table.slice(first, video.rows)) for video, first in places]
