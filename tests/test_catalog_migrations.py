"""From the schemas of released versions to the newest one; and what a kill on the way leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect

from indexer.catalog import migrate
from indexer.catalog.connect import open_catalog
from indexer.errors import ConfigError, DatabaseError
from indexer.index import Index
from indexer.views import migrate_catalog
from tests.archives import Archive
from tests.catalogs import index, indexed, shown
from tests.dump import assert_sound, canonical_dump
from tests.postgres import Postgres
from tests.released import FOLDER

RELEASED = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.sqlite.sql"))

NEXT = '''"""A migration that is only here: it replaces a table that others refer to."""

import os
import signal

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade():
    with op.batch_alter_table("video", table_kwargs={{"sqlite_autoincrement": True}}) as batch:
        batch.add_column(sa.Column("rating", sa.Integer))
        batch.create_check_constraint("rating", "rating >= 0")
    op.execute("UPDATE video SET rating = 5")
    if os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True))
'''
OPEN = """
from pathlib import Path
from indexer.catalog import connect, migrate
migrate.HEAD, migrate.MIGRATIONS = "9001", Path({folder!r})
connect.open_catalog({url!r}, create=False)
"""


@pytest.fixture
def load(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes a catalog as a version has left it, and gives its address."""

    def load(revision: str) -> str:
        script = (FOLDER / f"{revision}.{dialect}.sql").read_text()
        if dialect == "sqlite":
            file = sqlite3.connect(tmp_path / "catalog.db")
            file.executescript(script)
            file.close()
            return f"sqlite:///{tmp_path}/catalog.db"
        server: Postgres = request.getfixturevalue("postgres")
        database = server.database()
        server.execute(script, database=database)
        return server.url(database)

    return load


def described(engine: Engine) -> dict[str, Any]:
    """Table -> all that the database knows of it."""
    looked = inspect(engine)
    questions = ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "check_constraints", "indexes")
    tables: dict[str, Any] = {
        table: {question: getattr(looked, f"get_{question}")(table) for question in questions}
        for table in looked.get_table_names()
    }
    for table in tables.values():
        for column in table["columns"]:
            column["type"] = str(column["type"])
            del column["default"]  # which names the schema
        for one in table["indexes"]:
            one["dialect_options"] = {name: str(option) for name, option in one["dialect_options"].items()}
    return tables


def test_the_newest_schema_is_written_down_for_later_versions() -> None:
    assert RELEASED[-1] == migrate.HEAD, "python -m tests.released"
    assert sorted(path.name for path in FOLDER.glob("*.postgresql.sql")) == [f"{one}.postgresql.sql" for one in RELEASED]


@pytest.mark.parametrize("revision", RELEASED)
def test_a_catalog_of_every_release_opens_and_says_the_same(
    load: Callable[[str], str], new_url: Callable[[], str], revision: str
) -> None:
    old, fresh = open_catalog(load(revision), create=True), open_catalog(new_url(), create=True)
    assert described(old) == described(fresh)
    assert shown(old) == {
        ("a.mp4", "A"): ("indexed", (("yoga", 0.9123), ("archery", 1.0))),
        ("a.mp4", "B"): ("indexed", (("yoga", 0.5), ("archery", 1.0))),
        ("b é.mp4", "A"): ("pending", ()),
        ("b é.mp4", "B"): ("indexed", (("bowling", 0.4),)),
        ("c.mp4", "A"): ("failed", ()),
        ("c.mp4", "B"): ("failed", ()),
        ("d.mp4", "A"): ("skipped", ()),
        ("d.mp4", "B"): ("skipped", ()),
        ("e.mp4", "A"): ("pending", ()),
        ("gone.mp4", "A"): ("gone", ()),
        ("gone.mp4", "B"): ("gone", ()),
    }
    index(old, indexed("a.mp4", "2", ("yoga", 0.1)))
    assert shown(old)["a.mp4", "B"] == ("pending", ())
    assert_sound(old)
    old.dispose()
    fresh.dispose()


@pytest.mark.parametrize("revision", RELEASED[:1])
def test_who_reads_an_old_catalog_is_told_how_to_migrate_it(
    load: Callable[[str], str], revision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Archive(tmp_path).write_job(output={"catalog": load(revision)})
    with pytest.raises(DatabaseError, match=rf"has the old schema {revision}\. Run `indexer migrate JOB` once\.$"):
        Index.open(path)
    migrate_catalog(path, as_json=True)
    assert json.loads(capsys.readouterr().out)["schema"] == migrate.HEAD
    Index.open(path).close()


def test_there_must_be_a_catalog_to_migrate(tmp_path: Path) -> None:
    path = Archive(tmp_path).write_job()
    with pytest.raises(ConfigError, match=r"^there is no index yet: .*catalog\.db does not exist\. First: indexer run"):
        migrate_catalog(path, as_json=False)
    assert not (tmp_path / "index").exists()


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations of a version that has one more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder)
    (folder / "versions" / "9001_next.py").write_text(NEXT.format(head=migrate.HEAD))
    return folder


def test_a_kill_inside_a_migration_leaves_the_old_schema(load: Callable[[str], str], next_version: Path) -> None:
    url = load(RELEASED[-1])
    before = described_and_dumped(url)
    command = [sys.executable, "-c", OPEN.format(folder=str(next_version), url=url)]
    killed = subprocess.run(command, env=os.environ | {"KILL": "1"}, cwd=FOLDER.parents[1])
    assert killed.returncode == -signal.SIGKILL
    assert described_and_dumped(url) == before

    subprocess.run(command, check=True, cwd=FOLDER.parents[1])
    tables, dump, revision = described_and_dumped(url)
    assert (dump, revision) == (before[1], "9001")
    assert set(tables) == {*before[0], "tag"}
    assert [column["name"] for column in tables["video"]["columns"]][-1] == "rating"


DIES = """
import os, signal
from sqlalchemy import Engine, event
from indexer.catalog import connect
taken = []
def step(*args):
    if len(args) == 1 or args[2].split()[0] in ("CREATE", "DROP", "ALTER", "INSERT", "UPDATE", "DELETE"):
        taken.append(args)
        if len(taken) == {steps}:
            os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", step)
event.listen(Engine, "commit", step)
connect.open_catalog({url!r}, create=False)
"""


def test_a_kill_at_any_step_from_the_first_schema_to_the_newest_leaves_one_of_them(load: Callable[[str], str]) -> None:
    url = load(RELEASED[0])
    before = described_and_dumped(url)
    for steps in range(1, 20):
        ended = subprocess.run([sys.executable, "-c", DIES.format(steps=steps, url=url)], cwd=FOLDER.parents[1])
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        assert described_and_dumped(url) == before
    assert steps > 3  # the index, the number of the schema, the commit
    tables, dump, revision = described_and_dumped(url)
    assert (dump, revision) == (before[1], migrate.HEAD)
    assert "ix_hit_strong" in {one["name"] for one in tables["hit"]["indexes"]}


def described_and_dumped(url: str) -> tuple[dict[str, Any], list[Any], str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    answer = described(engine), canonical_dump(engine), str(revision)
    engine.dispose()
    return answer


def test_a_migration_that_breaks_a_reference_is_not_done(
    tmp_path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sqlite3.connect(tmp_path / "catalog.db")  # which does not look by itself while tables are replaced
    file.executescript((FOLDER / f"{RELEASED[-1]}.sqlite.sql").read_text())
    file.close()
    migration = next_version / "versions" / "9001_next.py"
    migration.write_text(migration.read_text().replace("UPDATE video SET rating = 5", "DELETE FROM video"))
    url = f"sqlite:///{tmp_path}/catalog.db"
    before = described_and_dumped(url)
    monkeypatch.setattr(migrate, "HEAD", "9001")
    monkeypatch.setattr(migrate, "MIGRATIONS", next_version)
    with pytest.raises(RuntimeError, match="would break a foreign key"):
        open_catalog(url, create=False)
    assert described_and_dumped(url) == before


def test_who_may_only_read_leaves_an_old_schema_alone(
    load: Callable[[str], str], next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = load(RELEASED[-1])
    monkeypatch.setattr(migrate, "HEAD", "9001")
    monkeypatch.setattr(migrate, "MIGRATIONS", next_version)
    with pytest.raises(DatabaseError, match=f"has the old schema {RELEASED[-1]}. Run `indexer migrate JOB` once"):
        open_catalog(url, create=False, read_only=True)
    monkeypatch.undo()
    assert described_and_dumped(url)[2] == RELEASED[-1]
