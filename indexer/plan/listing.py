"""The source of a job as a stream: a folder, or a manifest that names the videos; on a disk or in S3.

    videos.csv        uri,title                  videos.jsonl      {"uri": "2023/a.mp4"}
                      2023/a.mp4,First           videos.parquet    a column uri of strings

Other columns are ignored. Relative names are relative to the folder of the manifest. Any manifest may name s3:// addresses.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from wcmatch import glob

from indexer.errors import ConfigError
from indexer.records import Skipped, Video
from indexer.storage.source import Listed, absolute, below, copy_of, examine_each, kind_of, scan

_GLOB = glob.GLOBSTAR | glob.DOTGLOB | glob.BRACE | glob.IGNORECASE | glob.FORCEUNIX
_ROWS_AT_ONCE = 10_000

_log = logging.getLogger(__name__)

_Rows = Iterator[tuple[int, object]]
"""Line (or row of a table) in the manifest, from 1, and the uri that stands there."""


class Source(Protocol):
    """The part `source` of a job. Durations are seconds."""

    @property
    def uri(self) -> str: ...
    @property
    def include(self) -> Sequence[str]: ...
    @property
    def exclude(self) -> Sequence[str]: ...
    @property
    def min_age(self) -> float: ...


def list_source(source: Source, *, now: float, warn: Callable[[str], None] = _log.warning) -> Iterator[Listed]:
    """Every video of `source`, each uri once. `now` is unix time: what changed within `min_age` of it is too new.

    What `include` does not match, or `exclude` does, is not there at all. A manifest is its own include unless one was set.
    `warn` hears what the listing leaves out: names that a manifest repeats, links to folders, or all.

    Raises SourceError if the folder or manifest cannot be read; ConfigError, with file and line, for what is wrong in it.
    """
    kind, suffix = kind_of(source.uri), PurePosixPath(source.uri).suffix.lower()
    if kind == "folder":
        listed = _list_folder(source, warn)
    elif kind == "file" and suffix in _READERS:
        listed = _list_manifest(source, _READERS[suffix], warn)
    else:
        raise ConfigError(f"source.uri: {source.uri} is neither a folder nor a manifest ({', '.join(_READERS)}).")
    for item in listed:
        # On either side of now: the clock of a file server may be ahead. A date in the far future says nothing.
        if isinstance(item, Video) and abs(now - item.modified_at) < source.min_age:
            item = Skipped(item, "too_new")
        yield item


def _list_folder(source: Source, warn: Callable[[str], None]) -> Iterator[Listed]:
    included, excluded = _matcher(source.include), _matcher(_with_folders(source.exclude))
    emptied = _matcher([pattern for pattern in _with_folders(source.exclude) if pattern.endswith("/**")])
    files = listed = 0

    def wanted(name: str) -> bool:
        nonlocal files
        files += 1
        return included(name) and not excluded(name)

    for item in scan(source.uri, wanted=wanted, entered=lambda name: not emptied(f"{name}/"), warn=warn):
        listed += 1
        yield item
    if not listed:
        warn(f"{source.uri}: of the {files:,} files there, source.include and source.exclude leave none")


def _list_manifest(source: Source, read: Callable[[Path, str], _Rows], warn: Callable[[str], None]) -> Iterator[Listed]:
    seen: set[bytes] = set()  # digests: about 100 bytes for each line of a manifest, however long its names are
    repeated = 0
    with copy_of(source.uri) as manifest:
        for item in examine_each(_chosen(source, read(manifest, source.uri))):
            uri = (item if isinstance(item, Video) else item.video).uri
            name = hashlib.blake2b(uri.encode(), digest_size=16).digest()
            if name in seen:
                repeated += 1
                continue
            seen.add(name)
            yield item
    if repeated:
        warn(f"{source.uri}: {repeated} lines name a video that an earlier line named; each video counts once")
    if not seen:
        warn(f"{source.uri}: of what it names, source.include and source.exclude leave nothing")


def _chosen(source: Source, rows: _Rows) -> Iterator[str]:
    """The uris that a manifest names, as far as `include` and `exclude` let them through."""
    chosen = "include" in getattr(source, "model_fields_set", ("include",))
    included = _matcher(source.include) if chosen else lambda name: True
    excluded = _matcher(_with_folders(source.exclude))
    folder = source.uri.rpartition("/")[0]
    for line, entry in rows:
        uri = _absolute(folder, entry, f"{source.uri}:{line}")
        name = below(folder, uri)
        if included(name) and not excluded(name):
            yield uri


def _absolute(folder: str, entry: object, place: str) -> str:
    if not isinstance(entry, str) or not entry or "\0" in entry:
        raise ConfigError(f"{place}: {entry!r} is not the path of a video")
    try:
        entry.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{place}: {entry!a} is not UTF-8; write such bytes as %XX, and % as %25") from None
    try:
        return absolute(folder, entry)
    except ValueError as error:
        raise ConfigError(f"{place}: {entry} {error}") from None


def _csv_rows(manifest: Path, uri: str) -> _Rows:
    with manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            column = _uri_column(f"{uri}:1", columns)
            for row in reader:
                if row:
                    yield reader.line_num, row[column] if column < len(row) else None
        except csv.Error as error:
            raise ConfigError(f"{uri}:{reader.line_num}: {error}") from None


def _jsonl_rows(manifest: Path, uri: str) -> _Rows:
    with manifest.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{uri}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict) or "uri" not in row:
                raise ConfigError(f'{uri}:{number}: write one object a line, such as {{"uri": "2023/a.mp4"}}')
            yield number, row["uri"]


def _parquet_rows(manifest: Path, uri: str) -> _Rows:
    import pyarrow as pa  # 0.3 seconds, for one kind of manifest
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(manifest) as file:
            _uri_column(uri, file.schema_arrow.names)
            batches = file.iter_batches(_ROWS_AT_ONCE, columns=["uri"])
            yield from enumerate((uri for batch in batches for uri in batch.column(0).to_pylist()), start=1)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{uri}: not a Parquet file: {error}") from None


_READERS: dict[str, Callable[[Path, str], _Rows]] = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}


def _uri_column(place: str, columns: list[str]) -> int:
    if "uri" not in columns:
        raise ConfigError(f"{place}: there is no column uri; the columns are: {', '.join(columns) or 'none'}")
    return columns.index("uri")


def _with_folders(patterns: Sequence[str]) -> list[str]:
    """Whoever excludes a folder by its name (proxies, proxies/) means all that is in it."""
    folders = [
        f"{pattern.rstrip('/')}/**"
        for pattern in patterns
        if pattern.endswith("/") or not glob.is_magic(pattern.rpartition("/")[2], flags=_GLOB)
    ]
    return [*patterns, *folders]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a relative path matches one of `patterns`. * stays in its folder, ** does not; upper and lower case are one."""
    patterns = [pattern.removeprefix("./") for pattern in patterns]
    endings = tuple(pattern[4:].lower() for pattern in patterns if re.fullmatch(r"\*\*/\*\.\w+", pattern))
    others = [pattern for pattern in patterns if not re.fullmatch(r"\*\*/\*\.\w+", pattern)]
    # The default is 21 endings. As patterns they cost 90 us for each of the millions of files that match none.
    matches = glob.compile(others, flags=_GLOB, limit=0).match if others else lambda name: False
    return lambda name: name.lower().endswith(endings) or matches(name)
