"""Parts made of parts: the rows of chosen videos, copied as they are into one new file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import OutputError
from indexer.records import Part
from indexer.storage import Storage
from indexer.write.footer import Footer, PartVideo
from indexer.write.parquet import part_name, write_table
from indexer.write.read import UNREADABLE, read_footer

_REWRITTEN = 0
"""The sequence of a part that no run wrote as it is: those of a run begin at 1."""


def rewrite(storage: Storage, chosen: Mapping[str, Collection[str]]) -> Part:
    """Write one new part. `chosen` are the uris to copy from each part; all parts are of one recipe, no uri is given twice.

    Every video keeps the run that indexed it. What is held in memory is the rows that are copied, and one part more.
    Raises OutputError, also if a part cannot be read.
    """
    pieces: list[tuple[PartVideo, pa.Table]] = []
    footer = None
    for name, uris in chosen.items():
        try:
            footer, found = _copy(storage, name, set(uris))
        except UNREADABLE as error:
            raise OutputError(
                f"{storage.uri}/{name} cannot be read: {error}. `indexer check JOB --deep` says what is damaged."
            ) from error
        pieces += found
    if footer is None or not pieces:
        raise ValueError("there is nothing to rewrite")
    pieces.sort(key=lambda piece: piece[0].uri)
    videos = tuple(video for video, _ in pieces)
    run_id = max(video.run_id for video in videos)
    metadata = Footer(footer.recipe, run_id, footer.labels, videos).as_metadata()
    table = pa.concat_tables(rows for _, rows in pieces).replace_schema_metadata(metadata)
    return write_table(table, storage, part_name(run_id, _REWRITTEN))


def _copy(storage: Storage, name: str, uris: set[str]) -> tuple[Footer, list[tuple[PartVideo, pa.Table]]]:
    """The footer of a part, and the rows of these videos of it."""
    with storage.open(name) as file:
        footer = read_footer(file)
        with pq.ParquetFile(file) as part:
            table = part.read().replace_schema_metadata(None)
    first = 0
    places: list[tuple[PartVideo, int]] = []
    for video in footer.videos:
        if video.uri in uris:
            places.append((video, first))
        first += video.rows
    if missing := uris - {video.uri for video, _ in places}:
        raise ValueError(f"it has no rows of {min(missing)}")
    if len(places) < len(footer.videos):  # what is left behind must not stay in memory
        table = table.take(np.concatenate([np.arange(first, first + video.rows) for video, first in places]))
        ends = np.cumsum([video.rows for video, _ in places])
        places = [(video, int(end) - video.rows) for (video, _), end in zip(places, ends, strict=True)]
    return footer, [(video, table.slice(first, video.rows)) for video, first in places]
