"""Embeddings of live parts, laid out for scanning: one memory-mapped file for each part, in the user's cache folder.

    parts/part-000007-0001-3f9c2a71.parquet   ->   ~/.cache/indexer/shards/INDEX/SHA256-1.arrow

A reader of an index may not be allowed to write into it, and an index in S3 cannot be memory-mapped: so they are not kept
beside it. A shard holds nothing that its part does not. It is made when it is first asked for, named by the content of the
part, and removed when the part is no longer live; whoever deletes the folder loses only the time to make it again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.errors import OutputError
from indexer.search.cells import Cells
from indexer.search.dots import Float16s, unit_vectors
from indexer.storage import Storage

Number = TypeVar("Number", bound=np.generic)

_LAYOUT = 1
"""In the names: shards of another layout are of no use."""
_BEING_MADE_SECONDS = 3600.0


class ShardedPart(NamedTuple):
    """A part, as the catalog knows it."""

    part_id: int
    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of one part, in its order: all rows of a video are together, ordered by time."""

    uris: pa.StringArray
    """Of its videos."""
    video: NDArray[np.int32]
    """[rows], which of `uris`; never falls."""
    start_ms: NDArray[np.int32]
    end_ms: NDArray[np.int32]
    labels: list[str]
    label: NDArray[np.int32]
    """[rows], which of `labels` is the best one of the segment."""
    vectors: Float16s
    """[rows, width], of length 1, or zero. Mapped: read from disk when they are looked at."""

    def rows_of(self, video: int) -> slice:
        """Where the rows of this number of `uris` are."""
        first, stop = np.searchsorted(self.video, np.array([video, video + 1], np.int32))  # another type would copy all
        return slice(int(first), int(stop))

    def rows_of_videos(self, uris: Iterable[str]) -> NDArray[np.bool_]:
        """[rows], whether the row belongs to one of these."""
        named = pc.is_in(self.uris, value_set=pa.array(uris, pa.string()))
        return _numbers(named.cast(pa.uint8()), np.uint8).astype(np.bool_)[self.video]


class Shards:
    """The shards of one index. Those that were opened stay open: a program that lives on asks again at no cost."""

    def __init__(self, storage: Storage, folder: Path, *, note: Callable[[str], None] = lambda _: None) -> None:
        """They lie in `folder`, which nothing else uses; `note` hears of work that takes a while."""
        self._storage = storage
        self._folder = folder
        self._note = note
        self._open: dict[str, Shard] = {}
        self.cells = Cells(folder.with_name(f"{folder.name}-cells"), note=note)

    def open(self, parts: Iterable[ShardedPart]) -> list[Shard]:
        """The shards of `parts`, in this order; what is missing is made. Raises OutputError."""
        wanted = list(parts)
        opened = {part.sha256: shard for part in wanted if (shard := self._opened(part)) is not None}
        missing = [part for part in wanted if part.sha256 not in opened]
        if missing:
            self._note(f"reading the embeddings of {len(missing):,} new part{'' if len(missing) == 1 else 's'} ...")
        for part in missing:
            opened[part.sha256] = self._make(part)
        self._open |= opened
        return [opened[part.sha256] for part in wanted]

    def keep(self, live: Iterable[str]) -> None:
        """Remove all but what belongs to parts with these sha256. Whoever reads a shard at the moment is not disturbed."""
        names = {_name(sha256): sha256 for sha256 in live}
        self.cells.keep(names.values())
        self._open = {sha256: shard for sha256, shard in self._open.items() if _name(sha256) in names}
        with suppress(OSError):  # no folder yet, or another program is faster
            for entry in list(os.scandir(self._folder)):
                unfinished = entry.name.endswith(".tmp")
                if unfinished and time.time() - entry.stat().st_mtime < _BEING_MADE_SECONDS:
                    continue
                if entry.name not in names:
                    Path(entry.path).unlink(missing_ok=True)

    def _opened(self, part: ShardedPart) -> Shard | None:
        """The shard, if there is one. One that is cut off is as good as none."""
        if shard := self._open.get(part.sha256):
            return shard
        with suppress(OSError, pa.ArrowException, KeyError):
            shard = _read(self._folder / _name(part.sha256))
            if len(shard.video) == part.rows:
                return shard
        return None

    def _make(self, part: ShardedPart) -> Shard:
        table = self._rows(part)
        unfinished = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(".tmp", dir=self._folder)
            with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            shard = _read(Path(unfinished))  # what is mapped stays, also if another program removes its name
            Path(unfinished).replace(self._folder / _name(part.sha256))
        except OSError as error:
            why = error.strerror or str(error)
            raise OutputError(
                f"{self._folder}: {why}. Similarity search keeps a copy of all embeddings there, {table.nbytes / 1e6:,.0f} MB"
                " of this part; XDG_CACHE_HOME moves it to another disk."
            ) from error
        finally:
            if unfinished is not None:
                Path(unfinished).unlink(missing_ok=True)
        return shard

    def _rows(self, part: ShardedPart) -> pa.Table:
        """The rows of a part, as a shard has them."""
        try:
            with self._storage.open(part.name) as file:
                columns = ["uri", "start_ms", "end_ms", "labels", "embedding"]
                rows = pq.ParquetFile(file).read(columns=columns).combine_chunks()
            if rows.num_rows != part.rows:
                raise pa.ArrowInvalid(f"it has {rows.num_rows:,} rows, not {part.rows:,}")
        except (pa.ArrowException, OSError, KeyError) as error:
            raise OutputError(f"{self._storage.uri}/{part.name} cannot be read: {error}. Restore it from a copy.") from error
        vectors = _matrix(rows.column("embedding"))
        units = unit_vectors(vectors)
        return pa.table(
            {
                "uri": rows.column("uri").dictionary_encode(),
                "start_ms": rows.column("start_ms"),
                "end_ms": rows.column("end_ms"),
                "label": _best(rows.column("labels")).dictionary_encode(),
                "unit_vector": pa.FixedSizeListArray.from_arrays(pa.array(units.reshape(-1)), units.shape[1]),
            }
        )


def shards_folder(output_uri: str) -> Path:
    """Where the shards of an index are kept on this machine."""
    index = hashlib.sha256(output_uri.encode(errors="surrogateescape")).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "indexer" / "shards" / index


def _read(path: Path) -> Shard:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    uris, labels = (table.column(name).chunk(0) for name in ("uri", "label"))
    return Shard(
        uris=uris.dictionary,
        video=_numbers(uris.indices, np.int32),
        start_ms=_numbers(table.column("start_ms").chunk(0), np.int32),
        end_ms=_numbers(table.column("end_ms").chunk(0), np.int32),
        labels=labels.dictionary.to_pylist(),
        label=_numbers(labels.indices, np.int32),
        vectors=_matrix(table.column("unit_vector")),
    )


def _matrix(column: pa.ChunkedArray) -> Float16s:
    """[rows, width] of a column of lists of one length; not copied."""
    return _numbers(column.chunk(0).flatten(), np.float16).reshape(len(column), -1)


def _numbers(array: pa.Array, kind: type[Number]) -> NDArray[Number]:
    """The numbers of an array without nulls; not copied. Its own `to_numpy` imports pandas first, which takes a while."""
    return np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]


def _best(labels: pa.ChunkedArray) -> pa.Array:
    """The first of each list; no name where there is none."""
    lists = labels.chunk(0)
    offsets = _numbers(lists.offsets, np.int32)
    first = pa.array(offsets[:-1], mask=np.diff(offsets) == 0)
    return pc.fill_null(lists.values.take(first), "")


def _name(sha256: str) -> str:
    return f"{sha256}-{_LAYOUT}.arrow"
