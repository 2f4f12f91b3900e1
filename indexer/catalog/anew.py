"""A catalog that is lost or damaged gets a new one in its place; one that is sound is filled anew as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, make_url, select

from indexer.catalog.audit import broken_pages
from indexer.catalog.connect import open_catalog, reading
from indexer.catalog.refusals import is_broken
from indexer.catalog.tables import result
from indexer.errors import DatabaseError, RunHeld

_BESIDE = ("-wal", "-shm")
"""Files that SQLite keeps beside a database, and would take for those of another one under its name."""


def open_sound(url: str) -> Engine | None:
    """The catalog, if it is there and not damaged. Raises DatabaseError if that cannot be told, as the database is away."""
    engine = None
    try:
        engine = open_catalog(url, create=False)
        if engine is not None:
            with reading(engine) as connection:
                if not broken_pages(connection):
                    return engine
    except DatabaseError as error:
        if not is_broken(error):
            raise
    if engine is not None:
        engine.dispose()
    return None


def holds_results(engine: Engine) -> bool:
    """Whether anything would be lost with it."""
    with reading(engine) as connection:
        return connection.execute(select(result.c.video_id).limit(1)).first() is not None


@contextmanager
def catalog_anew(url: str) -> Iterator[Engine]:
    """An empty catalog, which is at `url` when the block ends well. Raises RunHeld if another program makes one meanwhile.

    An SQLite file is made beside the old one, so that nobody takes a half empty one for all there is; a killed attempt is
    taken up by the next one. In PostgreSQL it is in its place from the beginning.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = open_catalog(url, create=True)
        try:
            yield engine
        finally:
            engine.dispose()
        return
    place = Path(str(parsed.database)).absolute()
    new = place.with_name(f"{place.name}.rebuilding")
    before = _inode(place)
    engine = open_catalog(parsed.set(database=str(new)).render_as_string(hide_password=False), create=True)
    try:
        yield engine
    finally:
        engine.dispose()
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # everything into the one file
    if _inode(place) != before:
        raise RunHeld(f"{place} was made by another program meanwhile: let no run be at work on the index, and do this again.")
    for suffix in _BESIDE:
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    new.replace(place)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _inode(path: Path) -> int | None:
    """Which file it is; None if there is none."""
    return path.stat().st_ino if path.exists() else None
