"""Opening a catalog, and its schema."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

from indexer.catalog import connect, migrate, mounts, tables
from indexer.catalog.commit import claim, commit
from indexer.catalog.connect import open_catalog, reading, writing
from indexer.errors import DatabaseError, OutputError
from indexer.views import show_schema
from tests.catalogs import a_part, index, indexed, start
from tests.dump import assert_sound, canonical_dump, live_rows
from tests.postgres import Postgres


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Engine]:
    """A catalog in an SQLite file."""
    engine = open_catalog(f"sqlite:///{tmp_path}/index/catalog.db", create=True)
    yield engine
    assert_sound(engine)
    engine.dispose()


# Opening


def test_looking_for_a_catalog_makes_none(tmp_path: Path, catalog_url: str) -> None:
    assert open_catalog(catalog_url, create=False) is None
    assert open_catalog(catalog_url, create=False, read_only=True) is None
    assert list(tmp_path.iterdir()) == []
    engine = create_engine(catalog_url if catalog_url.startswith("postgresql") else "sqlite://")
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_an_empty_file_is_no_catalog_yet(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    url = f"sqlite:///{tmp_path}/catalog.db"
    assert open_catalog(url, create=False, read_only=True) is None
    assert (tmp_path / "catalog.db").stat().st_size == 0
    engine = open_catalog(url, create=True)
    assert canonical_dump(engine) == []
    engine.dispose()


def test_an_sqlite_catalog_is_made_durable_and_strict(file: Engine) -> None:
    with reading(file) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_odd_characters_in_the_path_are_just_characters(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/50% of #1/catalog ä.db"
    made = open_catalog(url, create=True)
    made.dispose()
    assert (tmp_path / "50% of #1" / "catalog ä.db").exists()
    again = open_catalog(url, create=False, read_only=True)
    assert again is not None
    again.dispose()


def test_opening_at_head_does_not_load_alembic(engine: Engine, catalog_url: str) -> None:
    code = (
        "import sys; from indexer.catalog.connect import open_catalog;"
        f"open_catalog({catalog_url!r}, create=True).dispose(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_eight_programs_may_create_it_at_once(catalog_url: str) -> None:
    problems: list[BaseException] = []

    def create() -> None:
        try:
            open_catalog(catalog_url, create=True).dispose()
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_reader_cannot_write_and_sees_one_moment(engine: Engine, catalog_url: str) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    reader = open_catalog(catalog_url, create=False, read_only=True)
    assert reader is not None
    with reading(reader) as connection:
        assert connection.execute(text("SELECT count(*) FROM hit")).scalar() == 1
        index(engine, indexed("b", "1", ("yoga", 0.5)))
        assert connection.execute(text("SELECT count(*) FROM hit")).scalar() == 1
    with reading(reader) as connection:
        assert connection.execute(text("SELECT count(*) FROM hit")).scalar() == 2
    with pytest.raises(DatabaseError, match=r"read-?only"):
        start(reader)
    reader.dispose()


def test_a_catalog_in_a_folder_that_cannot_be_written_to_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/catalog.db"
        engine = open_catalog(url, create=True)
        index(engine, indexed("a", "1", ("yoga", 0.5)))
        engine.dispose()
        Path(folder).chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may write anywhere
        try:
            reader = open_catalog(url, create=False, read_only=True)
            assert reader is not None
            assert len(live_rows(reader)) == 1
            reader.dispose()
            with pytest.raises(DatabaseError, match="Check the permissions"):
                open_catalog(url, create=True)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"This is certainly not a database. " * 100)
    for read_only in (False, True):
        with pytest.raises(DatabaseError, match=r"catalog.db: file is not a database. .*indexer rebuild JOB") as caught:
            open_catalog(f"sqlite:///{tmp_path}/catalog.db", create=False, read_only=read_only)
        assert caught.value.exit_code == 13


def test_the_database_of_another_program_is_left_alone(tmp_path: Path, catalog_url: str) -> None:
    (tmp_path / "index1").mkdir()
    other = create_engine(catalog_url)
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE photo (id INTEGER)")
    with pytest.raises(DatabaseError, match="holds something else"):
        open_catalog(catalog_url, create=True)
    assert inspect(other).get_table_names() == ["photo"]
    other.dispose()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_catalog_is_left_alone(engine: Engine, catalog_url: str, read_only: bool) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=f"has schema 9999, made by a newer version .* up to {migrate.HEAD}"):
        open_catalog(catalog_url, create=False, read_only=read_only)


def test_a_failing_migration_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW result AS SELECT 1 AS one")  # in the way of the last but two tables
    with pytest.raises(DatabaseError, match="result"):
        open_catalog(f"sqlite:///{path}", create=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("result",)]


def test_a_locked_file_is_said_so(file: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_SECONDS", 0.2)
    impatient = open_catalog(str(file.url), create=True)
    with writing(file), pytest.raises(DatabaseError, match="another program kept it locked"):
        start(impatient)
    assert start(impatient).run_id == 1
    impatient.dispose()


@pytest.mark.parametrize("place", ["file/catalog.db", "folder"])
def test_an_impossible_place_is_said_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatabaseError, match=place.split("/")[0]):
        open_catalog(f"sqlite:///{tmp_path}/{place}", create=True)


def test_a_catalog_in_memory_is_refused() -> None:
    with pytest.raises(DatabaseError, match="names no file"):
        open_catalog("sqlite://", create=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(file: Engine) -> None:
    engine = file
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    before = canonical_dump(engine)
    run = start(engine)
    many = indexed("b", "1", *[("yoga", i / 100_000) for i in range(20_000)])
    claim(engine, run, "/archive", [many.video])
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as large as it is now
        connection.rollback()
    with pytest.raises(OutputError, match="no space left") as caught:
        commit(engine, run, a_part([many]), [many])
    assert caught.value.exit_code == 14
    engine.dispose()
    assert [result for result in canonical_dump(engine) if result["uri"] != "/archive/b"] == before
    assert commit(engine, run, a_part([many]), [many]).committed == ("/archive/b",)


MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:50 / /srv rw,relatime shared:20 master:3 - nfs4 filer:/export rw,vers=4.2
41 40 8:17 / /srv/local\\040disk rw - xfs /dev/sdb1 rw
42 22 0:52 / /mnt/bucket rw - fuse.mount-s3 mount-s3 rw
43 22 0:53 / /mnt/bucket rw - tmpfs tmpfs rw
44 22 0:54 / /mnt/pc rw - cifs //pc/share rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv", "nfs4"),
        ("/srv/archive/index", "nfs4"),
        ("/srv2", None),
        ("/srv/local disk/index", None),
        ("/mnt/bucket", None),  # what was mounted later hides what was there
        ("/mnt/pc/x", "cifs"),
        ("/", None),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    assert mounts.network_filesystem(Path(folder)) is None  # a system that does not say
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert mounts.network_filesystem(Path(folder)) == kind


def test_a_file_on_a_network_file_system_is_only_read(file: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(file, indexed("a", "1", ("yoga", 0.5)))
    (tmp_path / "mountinfo").write_text(f"40 22 0:50 / {tmp_path} rw - nfs4 filer:/export rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(DatabaseError, match=r"catalog.db: SQLite is not safe on a network file system \(nfs4\)") as caught:
        open_catalog(str(file.url), create=True)
    assert caught.value.exit_code == 13
    reader = open_catalog(str(file.url), create=False, read_only=True)
    assert reader is not None
    assert len(live_rows(reader)) == 1
    reader.dispose()


# The schema


def test_the_migrated_schema_of_a_file_is_the_declared_one(file: Engine) -> None:
    def include(_: Any, name: str | None, *__: Any) -> bool:
        return name != "uq_hit"  # PostgreSQL only

    with file.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
        migrated = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'").all()
    declared = create_engine("sqlite://")
    tables.metadata.create_all(declared)
    with declared.connect() as connection:
        expected = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").all()
    declared.dispose()
    as_sets = [{name: sorted(_clauses(sql)) for name, sql in rows if sql} for rows in (migrated, expected)]
    assert as_sets[0] == as_sets[1]


def _clauses(sql: str) -> list[str]:
    return [line.strip().rstrip(",") for line in sql.splitlines() if line.strip()]


def test_the_migrated_schema_of_postgresql_is_the_declared_one(postgres: Postgres) -> None:
    migrated, declared = postgres.database(), postgres.database()
    open_catalog(postgres.url(migrated), create=True).dispose()
    engine = create_engine(postgres.url(declared))
    tables.metadata.create_all(engine)
    engine.dispose()
    options = ("--schema-only", "--exclude-table=alembic_version")
    assert postgres.dump(migrated, *options) == postgres.dump(declared, *options)


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_heads() == [migrate.HEAD]


def test_the_committed_schema_is_the_one_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    committed = Path(__file__).parent.parent / "schemas" / "catalog.sql"
    show_schema("catalog", as_json=False)
    assert committed.read_text() == capsys.readouterr().out, "make schemas, if the change is meant"
    show_schema("catalog", as_json=True)
    assert "\n".join(json.loads(capsys.readouterr().out).values()) == committed.read_text()


def test_the_sqlite_half_of_the_committed_schema_runs() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables.ddl("sqlite"))
