"""What it means when the database refuses: the sentence and the exit code for the user, and whether waiting may help.

A DatabaseError (exit 13) or, when the disk is full, an OutputError (exit 14). Programming errors and broken constraints are
bugs and stay what they are.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import exc, make_url

from indexer.errors import DatabaseError, OutputError, StopRun

BUSY_SECONDS = 30.0
"""How long SQLite waits for its turn."""
LOCK_SECONDS = 60.0
"""How long PostgreSQL waits for a lock: longer than it leaves one to a program that has gone silent."""

_BUGS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)
_NOT_ALLOWED, _NO_DATABASE, _DISK_FULL, _READ_ONLY, _LOCKED = "42501", "3D000", "53100", "25006", "55P03"  # of PostgreSQL
_CUT_OFF = ("08", "57P", "25P03")  # the connection broke, the server goes down or comes up, we were silent for too long
_CONFLICT = "40"  # deadlock, serialization failure: the transaction has not happened, and may be done again


def sentence_for(url: Any, error: exc.DBAPIError) -> StopRun | None:
    """What to tell the user; None if it is a bug."""
    code = _sqlstate(error)
    if isinstance(error, _BUGS) and code not in (_NOT_ALLOWED, _NO_DATABASE):
        return None
    message = f"{shown(url)}: {' '.join(str(error.orig).split())}"
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(shown(url), message, getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    return _of_postgresql(message, code)


def is_broken(error: DatabaseError) -> bool:
    """Whether it says that an SQLite file is damaged, or none."""
    cause = error.__cause__
    if not isinstance(cause, exc.DBAPIError) or not isinstance(cause.orig, sqlite3.Error):
        return False
    return getattr(cause.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def passes(error: exc.DBAPIError) -> bool:
    """Whether the same transaction may succeed in a moment."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    code = _sqlstate(error)
    if not code:  # the driver itself says something of connections: refused, cut, timed out
        return error.connection_invalidated or isinstance(error, exc.OperationalError)
    return code.startswith((_CONFLICT, *_CUT_OFF))


def shown(url: Any) -> str:
    """The catalog as a user knows it: the path of an SQLite file, else the address without any password."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return parsed.database
    secret = {key: "***" for key in parsed.query if "password" in key}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def _of_sqlite(catalog: str, message: str, code: int) -> StopRun:
    match code:
        case sqlite3.SQLITE_FULL:
            return OutputError(f"{catalog}: no space left. Free some space and run the same command again; nothing is lost.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseError(
                f"{catalog}: another program kept it locked for {BUSY_SECONDS:.0f} seconds. Let it finish, then run again."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return DatabaseError(f"{message}. Check the permissions of the file and of its folder.")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return DatabaseError(f"{message}. If it was the catalog, `indexer rebuild JOB` makes it anew from the parts.")
    return DatabaseError(message)


def _of_postgresql(message: str, code: str) -> StopRun:
    if code == _DISK_FULL:
        return OutputError(f"{message}. Free some space there and run the same command again; nothing is lost.")
    if code == _NOT_ALLOWED:
        return DatabaseError(f"{message}. Give this user a schema to create tables in, and the rights to use them.")
    if code == _READ_ONLY:
        return DatabaseError(f"{message}. This server takes no changes: name the primary server in output.catalog.")
    if code == _LOCKED:
        return DatabaseError(
            f"{message}. Another program kept it locked for {LOCK_SECONDS:.0f} seconds. Let it finish, then run again."
        )
    if not code or code.startswith(_CUT_OFF):
        return DatabaseError(f"{message}. Run the same command again when the server answers; what was committed stays.")
    return DatabaseError(message)


def _sqlstate(error: exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
