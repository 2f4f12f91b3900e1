"""Writes down a small catalog of the newest schema, as SQL text, and a small part, for the tests of later versions:
`python -m tests.released`.

Once for every release that has a new schema of either. What is there is never written again.
"""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine

from indexer.catalog import migrate
from indexer.catalog.commit import claim, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog, writing
from indexer.catalog.lease import acquire
from indexer.records import Skipped
from indexer.storage import open_storage
from indexer.write.footer import SCHEMA_VERSION
from indexer.write.parquet import write_part
from tests.catalogs import LABELS, RECIPES, failed, index, indexed, video
from tests.postgres import Postgres

FOLDER = Path(__file__).parent / "released"


def fill(engine: Engine) -> None:
    """One of everything."""
    for recipe, score in (("A", 0.91234), ("B", 0.5)):
        with acquire(engine, "archive") as lease:
            run = start_run(engine, lease=lease, recipe=RECIPES[recipe], labels=LABELS)
            two = indexed("a.mp4", "1", ("yoga", score), ("archery", 1.0)), indexed("b é.mp4", "1", ("yoga", 0.3))
            index(engine, *two, run=run)
            index(engine, failed("c.mp4", message="cut\nshort"), Skipped(video("d.mp4"), "no_video"), run=run)
            index(engine, indexed("b é.mp4", "2", ("bowling", 0.4)), indexed("gone.mp4", "1", ("yoga", 0.2)), run=run)
            finish_run(engine, run, "partial", {"videos": {"found": 5}})
    with acquire(engine, "archive") as lease:
        run = start_run(engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
        mark_gone(engine, run, ["/archive/gone.mp4"])
        claim(engine, run, "/archive", [video("e.mp4")])
    acquire(engine, "killed")
    with writing(engine) as connection:
        elsewhere = "nonce = 'n', host = 'archive-1', kernel = 'its last boot', pid = 4711, began = '123'"
        connection.exec_driver_sql(f"UPDATE lease SET {elsewhere}")


def write(name: str, content: str | bytes) -> None:
    path = FOLDER / name
    if path.exists():
        print(f"{path} is there already")
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def a_part(folder: Path) -> bytes:
    """Two videos, one of them without a label in its second segment."""
    first, second = indexed("b é.mp4", "1", ("yoga", 0.3)), indexed("a.mp4", "2", ("yoga", 0.91234), ("archery", 1.0))
    bare = replace(second.segments[1], labels=(), scores=())
    videos = first, replace(second, segments=(second.segments[0], bare))
    storage = open_storage(str(folder))
    part = write_part(videos, storage, recipe=RECIPES["A"], run_id=7, sequence=1, labels=LABELS)
    return (folder / part.name).read_bytes()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="indexer-") as folder:
        write(f"{SCHEMA_VERSION}.parquet", a_part(Path(folder)))
        engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=True)
        fill(engine)
        engine.dispose()
        file = sqlite3.connect(f"{folder}/catalog.db")
        write(f"{migrate.HEAD}.sqlite.sql", "\n".join(file.iterdump()) + "\n")
        file.close()
        server = Postgres(Path(folder) / "data")
        try:
            database = server.database()
            engine = open_catalog(server.url(database), create=True)
            fill(engine)
            engine.dispose()
            write(f"{migrate.HEAD}.postgresql.sql", server.dump(database, "--inserts", "--no-privileges"))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
