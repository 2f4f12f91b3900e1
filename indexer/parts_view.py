"""`indexer parts`: what other tools need to read the parts without the rows that are no longer true."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.text import Text
from sqlalchemy import Engine

from indexer.catalog import lookup
from indexer.catalog.live import live_parts, placed_videos
from indexer.console import printable
from indexer.errors import ConfigError, OutputError
from indexer.index import current_recipe, index_of
from indexer.search_view import check_target
from indexer.views import complain, make_table, out, print_json

_MANIFEST = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),  # as its file is opened: an absolute path, or an s3:// address
        pa.field("uri", pa.string(), nullable=False),
        pa.field("segments", pa.int32(), nullable=False),
    ]
)


def show_parts(path: Path, *, output: Path | None, force: bool, as_json: bool) -> None:
    """`indexer parts`: of the job's own recipe, as embeddings of two recipes cannot be compared."""
    if output is not None and output.suffix != ".parquet":
        raise ConfigError(f"-o: {output} does not end in .parquet, which is what is written")
    if output is not None:
        check_target(output, force=force)
    job, engine = index_of(path)
    recipe_id = lookup.find_recipe(engine, current_recipe(job, engine) or "")
    if recipe_id is None:
        raise ConfigError(f"nothing is indexed with the settings of {path} yet. First: indexer run {path}")
    parts = live_parts(engine, recipe_id)
    if output is not None:
        _write_manifest(engine, recipe_id, job.output.uri.rstrip("/"), output)
    if as_json:
        print_json({"uri": job.output.uri, "parts": [part._asdict() for part in parts]})
        return
    if output is None and parts:
        table = make_table("part", "rows", "live", "videos", "MB")
        for part in parts:
            numbers = (f"{part.rows:,}", f"{part.live_rows:,}", f"{part.videos:,}", f"{part.bytes / 1e6:,.1f}")
            table.add_row(Text(part.name), *numbers)
        out().print(table)
    live, rows = sum(part.live_rows for part in parts), sum(part.rows for part in parts)
    complain(f"{live:,} of {rows:,} rows are live, in {len(parts):,} parts of {printable(job.output.uri)}")


def _write_manifest(engine: Engine, recipe_id: int, root: str, output: Path) -> None:
    try:
        with pq.ParquetWriter(output, _MANIFEST, compression="zstd") as writer:
            for some in placed_videos(engine, recipe_id):
                rows = [video._asdict() | {"part": f"{root}/{video.part}"} for video in some]
                writer.write_table(pa.Table.from_pylist(rows, schema=_MANIFEST))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
