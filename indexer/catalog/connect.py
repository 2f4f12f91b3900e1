"""Opening the catalog, and the two ways to use it: one writing transaction, or one consistent view for reading.

What the database refuses becomes a DatabaseError (exit 13) or, when the disk is full, an OutputError (exit 14), with a
sentence for the user. Programming errors and broken constraints are bugs and stay what they are.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect, make_url

from indexer.errors import DatabaseError, OutputError, StopRun

HEAD = "0001"
"""The newest revision in `migrations/`. A catalog that has it is opened without loading Alembic, which takes a second."""

_BUSY_SECONDS = 30.0
_WRITES = "indexer_writes"
_MIGRATION_LOCK = 5_310_177_204  # any number, as long as it never changes


@overload
def open_catalog(url: str, *, create: Literal[True]) -> Engine: ...
@overload
def open_catalog(url: str, *, create: bool, read_only: bool = False) -> Engine | None: ...
def open_catalog(url: str, *, create: bool, read_only: bool = False) -> Engine | None:
    """The catalog at `url`, at the newest schema; None if there is none yet and `create` is false.

    With `create`, a missing catalog is made (with its folder). An older schema is brought up to date, unless `read_only`:
    then nothing is ever written, and an older schema is a DatabaseError, as is a newer one in any case.
    """
    if create and read_only:
        raise ValueError("a catalog cannot be created read-only")
    try:
        engine = _engine(url, create=create, read_only=read_only)
    except ModuleNotFoundError as error:
        raise DatabaseError(f"output.catalog: {_shown(url)} needs the Python package {error.name}; install it.") from error
    if engine is None:
        return None
    try:
        with reading(engine) as connection:
            revision = _revision(connection)
        if revision == HEAD or _bring_to_head(engine, revision, create=create, read_only=read_only):
            return engine
    except BaseException:
        engine.dispose()
        raise
    engine.dispose()
    return None


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction, alone in the database from its start: committed when the block ends well, else rolled back.

    Another writer is waited for, 30 seconds at most.
    """
    with _sentences(engine), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One view of the catalog that no commit of others changes while the block lasts."""
    with _sentences(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def _engine(url: str, *, create: bool, read_only: bool) -> Engine | None:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseError(f"output.catalog: {url} names no file; the catalog must outlive the program.")
    path = Path(parsed.database).absolute()
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{path.parent}: cannot make the folder of the catalog: {error.strerror}") from error
    elif not path.exists():
        return None

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(path))}"
        try:
            return _sqlite_connection(f"{uri}?mode={'rwc' if create else 'rw'}", read_only=read_only)
        except sqlite3.OperationalError as error:
            wal = path.with_name(f"{path.name}-wal")
            refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not (read_only and refused) or wal.exists():
                raise
            # A folder mounted read-only has no room for the files that readers share with writers. It has no writers either.
            return _sqlite_connection(f"{uri}?mode=ro&immutable=1", read_only=True)

    engine = create_engine(parsed, creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _sqlite_connection(uri: str, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA cache_size = -65536")  # KiB; one commit touches pages of every label
        if read_only:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT 1 FROM sqlite_master").close()  # opens the file, which connecting does not
        else:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # what was reported as committed survives a power cut
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """With a write-ahead log, readers and the writer do not wait for each other.

    SQLite itself waits for its turn in everything but the switch to it, which programs may make at the same moment.
    """
    patience_ends = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patience_ends:
                raise
        time.sleep(0.02)


def _begin(connection: Connection) -> None:
    """The driver's own BEGIN comes too late (not before SELECT, not before DDL), so it is off and this is it."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(connection: Connection) -> str | None:
    """The schema that the catalog has; None for an empty database. DatabaseError if this is no catalog."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables or "result" not in tables:
        raise DatabaseError(f"{_shown(connection.engine.url)} holds something else than a catalog of this program.")
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def _bring_to_head(engine: Engine, revision: str | None, *, create: bool, read_only: bool) -> bool:
    """Bring a catalog that is not at HEAD there. False if it is empty and must stay so."""
    if revision is None and not create:
        return False
    import alembic.command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    if revision is not None and revision not in known:
        raise DatabaseError(
            f"{_shown(engine.url)} has schema {revision}, made by a newer version of this program, which knows schemas"
            f" up to {HEAD}. Use that version."
        )
    if read_only:
        raise DatabaseError(f"{_shown(engine.url)} has the old schema {revision}. Run `indexer migrate JOB` once.")
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        if _revision(connection) != HEAD:  # another program may have been first
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")
    return True


@contextmanager
def _sentences(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError):
        raise
    except exc.DBAPIError as error:
        raise _stop_run(_shown(engine.url), error.orig) from error


def _stop_run(catalog: str, error: Any) -> StopRun:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the high bits only refine it
    if code == sqlite3.SQLITE_FULL:
        return OutputError(f"{catalog}: no space left. Free some space and run the same command again; nothing is lost.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseError(
            f"{catalog}: another program kept it locked for {_BUSY_SECONDS:.0f} seconds. Let it finish, then run again."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return DatabaseError(f"{catalog}: {error}. Check the permissions of the file and of its folder.")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return DatabaseError(
            f"{catalog}: {error}. If it was the catalog, move it away: `indexer rebuild JOB` makes it new from the parts."
        )
    return DatabaseError(f"{catalog}: {error}")


def _shown(url: Any) -> str:
    """The catalog as a user knows it: the path of a SQLite file, else the address without its password."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return parsed.database
    return parsed.render_as_string(hide_password=True)
