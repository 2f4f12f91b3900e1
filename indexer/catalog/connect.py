"""Opening the catalog, and the ways to use it: a writing transaction, or one consistent view for reading.

What the database refuses becomes a StopRun with a sentence for the user: see `refusals`.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar, overload
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.engine import URL

from indexer.catalog import migrate
from indexer.catalog.mounts import network_filesystem
from indexer.catalog.refusals import BUSY_SECONDS, LOCK_SECONDS, passes, sentence_for
from indexer.errors import DatabaseError

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 30.0
"""How long a transaction is tried again when the database cannot do it now: longer than a server takes to restart."""

SILENCE_SECONDS = 30.0
"""How long PostgreSQL keeps a transaction, with its locks, of a program that says nothing: it may be frozen, or gone."""

_WRITES = "indexer_writes"

# A connection without life is noticed within a minute, not after the two hours of the operating system.
_CONNECTING = {
    "application_name": "indexer",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

# PostgreSQL plans for a tenth of an answer, and compiles what would take long if all of it was read.
_FIRST_ROWS = text("SELECT set_config('cursor_tuple_fraction', '0.001', true), set_config('jit', 'off', true)")

_LIMITS = text(
    "SELECT set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :silence, true)"
)


@overload
def open_catalog(url: str, *, create: Literal[True]) -> Engine: ...
@overload
def open_catalog(url: str, *, create: bool, read_only: bool = False) -> Engine | None: ...
def open_catalog(url: str, *, create: bool, read_only: bool = False) -> Engine | None:
    """The catalog at `url`, at the newest schema; None if there is none yet and `create` is false.

    With `create`, a missing catalog is made: an SQLite file with its folder, or tables in a PostgreSQL database, which must
    be there. An older schema is brought up to date, unless `read_only`: then nothing is ever written, and an older schema is
    a DatabaseError, as is a newer one in any case.
    """
    if create and read_only:
        raise ValueError("a catalog cannot be created read-only")
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(parsed, create=create, read_only=read_only)
    else:
        engine = _postgresql_engine(parsed, read_only=read_only)
    if engine is None:
        return None
    try:
        with reading(engine) as connection:
            found = migrate.revision(connection)
        if found is None and not create:
            engine.dispose()
            return None
        if found != migrate.HEAD:
            migrate.check_way(engine, found, read_only=read_only)
            with _migrating(engine) as connection:
                migrate.upgrade(connection)
    except BaseException:  # Ctrl-C, too: nobody else can close it any more
        engine.dispose()
        raise
    return engine


def transact(engine: Engine, work: Callable[[Connection], Answer]) -> Answer:
    """Do `work` in one writing transaction, and again from its start if the database could not do it this time.

    That is after a conflict with another writer, or when the connection was lost. Then nobody knows whether COMMIT arrived:
    so `work` done twice must be the same as done once. The second time it waits for what the first one has locked.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    with _sentences(engine):
        for tries in count():
            try:
                with _transaction(engine) as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if not passes(error) or time.monotonic() > give_up:
                    raise
            time.sleep(random.uniform(0.5, 1.0) * min(0.05 * 2**tries, 2.0))
    raise AssertionError("count() never ends")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends well, else rolled back. On SQLite it is alone in the database.

    Whatever another writer has locked is waited for: on SQLite 30 seconds at most, on PostgreSQL a minute.
    """
    with _sentences(engine), _transaction(engine) as connection:
        yield connection


@contextmanager
def reading(engine: Engine, *, first_rows: bool = False) -> Iterator[Connection]:
    """One view of the catalog that no commit of others changes while the block lasts.

    `first_rows`: answers are read piece by piece, and seldom to their end.
    """
    with _sentences(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            if first_rows and engine.dialect.name == "postgresql":
                connection.execute(_FIRST_ROWS)
            yield connection


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                milliseconds = {"wait": 1000 * LOCK_SECONDS, "silence": 1000 * SILENCE_SECONDS}
                connection.execute(_LIMITS, {name: f"{value:.0f}" for name, value in milliseconds.items()})
            yield connection


@contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """A writing transaction that waits for other programs, and may replace the tables that others refer to."""
    with _sentences(engine), engine.connect() as connection:
        connection.detach()  # its settings are for this transaction only
        if engine.dialect.name == "sqlite":
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")  # not possible later, inside of it
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


def _postgresql_engine(url: URL, *, read_only: bool) -> Engine:
    settings = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    return create_engine(
        url, connect_args=settings, pool_pre_ping=True, execution_options={"postgresql_readonly": True} if read_only else {}
    )


def _sqlite_engine(url: URL, *, create: bool, read_only: bool) -> Engine | None:
    if not url.database or url.database == ":memory:":
        raise DatabaseError(f"output.catalog: {url} names no file; the catalog must outlive the program.")
    path = Path(url.database).absolute()
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{path.parent}: cannot make the folder of the catalog: {error.strerror}") from error
    elif not path.exists():
        return None
    if not read_only and (kind := network_filesystem(path.parent)):
        raise DatabaseError(
            f"{path}: SQLite is not safe on a network file system ({kind}): two machines would damage it. Set output.catalog"
            " to a file on a disk of this machine, such as sqlite:////var/lib/indexer/catalog.db, or to a PostgreSQL database."
        )

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

    engine = create_engine(url, creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _sqlite_connection(uri: str, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA cache_size = -65536")  # KiB; one commit touches pages of every label
        if read_only:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT 1 FROM sqlite_master").close()  # opens the file, which connecting does not
        else:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # what was reported as committed survives a power cut
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:  # Ctrl-C, too: nobody else can close it any more
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """With a write-ahead log, readers and the writer do not wait for each other.

    SQLite itself waits for its turn in everything but the switch to it, which programs may make at the same moment.
    """
    patience_ends = time.monotonic() + BUSY_SECONDS
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


@contextmanager
def _sentences(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        stop = sentence_for(engine.url, error)
        if stop is None:
            raise
        raise stop from error
