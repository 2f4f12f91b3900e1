"""A small index of real parts and a real catalog, whose videos were never decoded: the test says what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from indexer.catalog.commit import claim, commit, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading, writing
from indexer.catalog.lease import Lease, acquire
from indexer.records import IndexedVideo, Outcome
from indexer.storage import Storage, open_storage
from indexer.upkeep.check import check
from indexer.upkeep.findings import Finding
from indexer.write.parquet import write_part
from tests.catalogs import LABELS, RECIPES, indexed
from tests.dump import canonical_dump, live_rows
from tests.postgres import Postgres

JOB = "archive"


class Index:
    """`uri` is that of its storage, a folder or a bucket."""

    def __init__(self, url: str, uri: str) -> None:
        self.url = url
        self.uri = uri
        self.storage: Storage = open_storage(uri)
        self.engine: Engine = open_catalog(url, create=True)
        self._sequence = 0

    def close(self) -> None:
        self.engine.dispose()

    def lease(self) -> Lease:
        return acquire(self.engine, JOB)

    def run(self, *outcomes: Outcome, recipe: str = "A", gone: Sequence[str] = (), parts: int = 1) -> list[str]:
        """One run that ends like this, with so many commits. Gives the names of its parts."""
        names = []
        with self.lease() as lease:
            run = start_run(self.engine, lease=lease, recipe=RECIPES[recipe], labels=LABELS)
            mark_gone(self.engine, run, [f"/archive/{name}" for name in gone])
            claim(self.engine, run, "/archive", [outcome.video for outcome in outcomes])
            for number in range(parts):
                some = outcomes[number::parts]
                videos = [outcome for outcome in some if isinstance(outcome, IndexedVideo)]
                part = None
                if videos:
                    part = write_part(
                        videos, self.storage, recipe=RECIPES[recipe], run_id=run.run_id, sequence=number + 1, labels=LABELS
                    )
                    names.append(part.name)
                commit(self.engine, run, part, some)
            finish_run(self.engine, run, "complete", {})
        return names

    def orphan(self, *videos: IndexedVideo, run_id: int = 1) -> str:
        """A part that a killed run has left."""
        return write_part(videos, self.storage, recipe=RECIPES["A"], run_id=run_id, sequence=9, labels=LABELS).name

    def findings(self, *, deep: bool = True) -> list[Finding]:
        return list(check(self.engine, self.storage, deep=deep, progress=lambda *_: None))

    def codes(self, *, deep: bool = True) -> list[tuple[str, str]]:
        """(code, subject) of all that is wrong."""
        return [(finding.code, finding.subject) for finding in self.findings(deep=deep) if finding.is_fault]

    def path(self, name: str) -> Path:
        return Path(self.uri) / name

    def files(self) -> list[str]:
        return [file.name for file in self.storage.list_files("")]

    def dump(self) -> list[dict[str, Any]]:
        return canonical_dump(self.engine)

    def rows(self) -> list[tuple[Any, ...]]:
        return live_rows(self.engine)

    def sql(self, statement: str) -> list[Any]:
        with writing(self.engine) as connection:
            cursor = connection.exec_driver_sql(statement)
            return list(cursor) if cursor.returns_rows else []

    def ask(self, statement: str) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.exec_driver_sql(statement))

    def free_lease(self) -> None:
        """As if the process of whoever holds it had died."""
        with suppress(Exception):
            self.sql("DELETE FROM lease")


CopiesOf = Callable[[Callable[[Index], object]], Callable[[], Index]]
"""Takes what fills an index, and gives what opens a new copy of it, in the place of the one before, which is closed."""


@pytest.fixture
def copies_of(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> CopiesOf:
    """On SQLite, then on PostgreSQL."""
    folder, copy = tmp_path / "template", tmp_path / "index"

    def on_sqlite() -> str:
        return f"sqlite:///{copy}/catalog.db"

    def on_postgresql() -> str:
        server.execute(f"DROP DATABASE IF EXISTS {database}_copy WITH (FORCE)")
        server.execute(f"CREATE DATABASE {database}_copy TEMPLATE {database}")
        return server.url(f"{database}_copy")

    if dialect == "sqlite":
        url, url_of_copy = f"sqlite:///{folder}/catalog.db", on_sqlite
    else:
        server: Postgres = request.getfixturevalue("postgres")
        database = server.database()
        url, url_of_copy = server.url(database), on_postgresql

    def opened() -> Index:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        return Index(url_of_copy(), str(copy))

    def filled(fill: Callable[[Index], object]) -> Callable[[], Index]:
        template = Index(url, str(folder))
        fill(template)
        template.close()
        return opened

    return filled


def three_runs(index: Index) -> list[str]:
    """Five videos in three parts; b was replaced, and d failed since."""
    return [
        *index.run(indexed("a", "1", ("yoga", 0.9), ("archery", 0.3)), indexed("b", "1", ("bowling", 0.7))),
        *index.run(indexed("b", "2", ("archery", 0.6)), indexed("c", "1", ("yoga", 0.5), ("yoga", 0.05))),
        *index.run(indexed("d", "1", ("bowling", 1.0)), indexed("e", "1", ("yoga", 0.0))),
    ]
