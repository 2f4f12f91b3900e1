"""Death at the n-th thing that a program does to the world, for n = 1, 2, 3 ... until it lives to the end.

Whatever it does after that, it does not do: like a process that was killed, but for what its `finally` blocks would say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import BinaryIO

from sqlalchemy import Connection, Engine, event

from indexer.storage import Storage, StoredFile


class Dead(BaseException):
    """It was killed here."""


class Fuse:
    """Burns through at the n-th step; never, without n."""

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.taken = 0

    def step(self) -> None:
        self.taken += 1
        if self.steps is not None and self.taken >= self.steps:
            raise Dead

    @contextmanager
    def in_catalog(self, engine: Engine | type[Engine]) -> Iterator[None]:
        """Every statement that changes something is a step, and every COMMIT."""
        event.listen(engine, "before_cursor_execute", self._executes)
        event.listen(engine, "commit", self._commits)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", self._executes)
            event.remove(engine, "commit", self._commits)

    def _executes(self, connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            self._commits(connection)

    def _commits(self, connection: Connection) -> None:
        if not connection.connection.is_detached:  # a migration, whose deaths have a test of their own
            self.step()


class Burning:
    """A storage in which every change is a step, and a new file one more when it is durable."""

    def __init__(self, storage: Storage, fuse: Fuse) -> None:
        self._storage = storage
        self._fuse = fuse

    @property
    def uri(self) -> str:
        return self._storage.uri

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        return self._create(name)

    @contextmanager
    def _create(self, name: str) -> Iterator[BinaryIO]:
        self._fuse.step()
        with self._storage.create(name) as file:
            yield file
        self._fuse.step()

    def open(self, name: str) -> BinaryIO:
        return self._storage.open(name)

    def delete(self, name: str) -> None:
        self._fuse.step()
        self._storage.delete(name)

    def list_files(self, prefix: str) -> Iterator[StoredFile]:
        return self._storage.list_files(prefix)


def deaths(attempt: Callable[[Fuse], None]) -> Iterator[int]:
    """Try with longer and longer fuses. Gives the number of each step at which it died, until it does not."""
    for steps in count(1):
        try:
            attempt(Fuse(steps))
        except Dead:
            yield steps
        else:
            return
