"""One job is run by one run at a time: the lease.

    acquire --> renew, renew, ... --> release          a thread renews it every ten seconds, for a minute more

A lease is taken over when its process is known to be dead, or when it was not renewed for a minute. Each has a token, and
later ones have higher tokens. Every transaction of a run makes sure that the token of its lease is still there: whoever was
taken over, and does not know it yet, cannot change anything. `gc`, `forget` and `rebuild` end what they could take over, of
other jobs, too. Times are those of the database; clocks of hosts do not matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Double, Engine, Row, and_, delete, literal_column, select, text, update

from indexer.catalog.connect import transact, writing
from indexer.catalog.holder import Holder
from indexer.catalog.tables import lease
from indexer.errors import LeaseLost, RunHeld, StopRun

Answer = TypeVar("Answer")

LEASE_SECONDS = 60.0
BEAT_SECONDS = 10.0

_NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}
_ADD = text(
    "INSERT INTO lease (job, nonce, host, kernel, pid, began, acquired_at, expires_at)"
    " VALUES (:job, :nonce, :host, :kernel, :pid, :began, :now, :expires_at)"
    " ON CONFLICT (job) DO NOTHING RETURNING token"
)


class Lease:
    """The right to run a job. As a context manager it is renewed by a thread, and released at the end of the block."""

    def __init__(self, engine: Engine, job: str, token: int) -> None:
        self.job = job
        self.token = token
        self.taken_at = time.time()  # by the clock of this host: for the record of the run, and compared with nothing
        self._engine = engine
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {job}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StopRun):  # it ends by itself, in a minute
            self.release()

    def renew(self) -> None:
        """Hold it for a minute from now. Raises LeaseLost if another run has taken the job over."""
        with writing(self._engine) as connection:
            values = {"expires_at": _now(connection) + LEASE_SECONDS}
            if not connection.execute(update(lease).where(lease.c.token == self.token).values(values)).rowcount:
                raise _lost()

    def release(self) -> None:
        """Let other runs have the job. Does nothing if another one has taken it over."""
        with writing(self._engine) as connection:
            connection.execute(delete(lease).where(lease.c.token == self.token))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.renew()
            except LeaseLost:
                return  # the next transaction of the run stops it
            except StopRun:
                continue  # the database is away, or busy: the lease lasts for some more beats


def acquire(engine: Engine, job: str) -> Lease:
    """The lease of the job called `job`. Raises RunHeld if another run has it."""
    take = partial(_take, job=job, holder=Holder.this_process(), nonce=uuid4().hex)
    while (token := transact(engine, take)) is None:
        pass  # another run came first, in this moment
    return Lease(engine, job, token)


def fenced(engine: Engine, token: int, work: Callable[[Connection], Answer]) -> Answer:
    """Do `work` in one transaction, as `transact`, while nobody can take over the lease with this token.

    Raises LeaseLost if somebody has. A lease that has run out is good as long as nobody wants it.
    """

    def guarded(connection: Connection) -> Answer:
        # PostgreSQL: taking over waits until this transaction ends; renewing does not.
        held = select(lease.c.token).where(lease.c.token == token).with_for_update(read=True, key_share=True)
        if connection.execute(held).scalar() is None:
            raise _lost()
        return work(connection)

    return transact(engine, guarded)


def held_tokens(connection: Connection) -> set[int]:
    """The tokens of the leases whose runs are at work."""
    now = connection.execute(select(_now(connection))).scalar_one()
    return {row.token for row in connection.execute(select(lease)) if not _is_free(row, now)}


def others_at_work(connection: Connection, token: int) -> bool:
    """Whether another job than that of this token's lease is at work on the catalog."""
    return bool(held_tokens(connection) - {token})


def end_free_leases(connection: Connection, token: int) -> None:
    """Let no other job go on that was not heard of for a minute. If its process is only frozen, it commits nothing any more.

    In a transaction that writes, before the catalog is asked which files may be deleted.
    """
    now = connection.execute(select(_now(connection))).scalar_one()
    for row in connection.execute(select(lease).where(lease.c.token != token)).all():
        if _is_free(row, now):  # and is not renewed in this moment
            unchanged = and_(lease.c.token == row.token, lease.c.expires_at == row.expires_at)
            connection.execute(delete(lease).where(unchanged))


def _take(connection: Connection, *, job: str, holder: Holder, nonce: str) -> int | None:
    """The token of a new lease, or None if another process has made one in this moment."""
    found = connection.execute(select(lease).where(lease.c.job == job).with_for_update()).one_or_none()
    now = connection.execute(select(_now(connection))).scalar_one()
    if found is not None:
        if found.nonce == nonce:
            return int(found.token)  # the answer to an earlier COMMIT was lost
        if not _is_free(found, now):
            since = datetime.fromtimestamp(found.acquired_at).astimezone()
            raise RunHeld(
                f"The job {job} is at work already: host {found.host}, process {found.pid}, since {since:%Y-%m-%d %H:%M}."
                f" Let it end, or stop it. If that process is dead, the job is free in {found.expires_at - now:.0f} seconds."
            )
        connection.execute(delete(lease).where(lease.c.token == found.token))
    values = {
        "job": job, "nonce": nonce, "host": holder.host, "kernel": holder.kernel, "pid": holder.pid, "began": holder.began,
        "now": now, "expires_at": now + LEASE_SECONDS,
    }  # fmt: skip
    token: int | None = connection.execute(_ADD, values).scalar()
    return token


def _is_free(row: Row[Any], now: float) -> bool:
    """Whether a row of `lease` may be taken over."""
    return bool(row.expires_at <= now) or Holder(row.host, row.kernel, row.pid, row.began).is_gone()


def _now(connection: Connection) -> ColumnElement[float]:
    """Unix seconds, by the clock of the database."""
    return literal_column(_NOW[connection.dialect.name], Double)


def _lost() -> LeaseLost:
    return LeaseLost(
        "Another run has taken this job over, or gc, forget or rebuild has ended it, as it was not heard of for a minute: its"
        " machine slept, or could not reach the database. What was committed stays, and only the work in flight is lost."
        " Let the other program end, then run the same command again."
    )
