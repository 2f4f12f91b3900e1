"""The schema of a catalog that is there, and the way to the newest one.

The way is one transaction of the caller's: a program that is killed on it leaves the old schema or the new one.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from indexer.catalog.refusals import shown
from indexer.errors import DatabaseError

HEAD = "0002"
"""The newest revision in `migrations/`. A catalog that has it is opened without loading Alembic, which takes a second."""

MIGRATIONS = Path(__file__).parent / "migrations"

_ONE_AT_A_TIME = 5_310_177_204  # any number, as long as it never changes


def revision(connection: Connection) -> str | None:
    """The schema that the catalog has; None for an empty database. DatabaseError if this is no catalog."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables or "result" not in tables:
        raise DatabaseError(f"{shown(connection.engine.url)} holds something else than a catalog of this program.")
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def check_way(engine: Engine, found: str | None, *, read_only: bool) -> None:
    """Raise DatabaseError unless there is a way from this schema to HEAD, and it may be gone."""
    from alembic.script import ScriptDirectory

    known = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    if found is not None and found not in known:
        raise DatabaseError(
            f"{shown(engine.url)} has schema {found}, made by a newer version of this program, which knows schemas"
            f" up to {HEAD}. Use that version."
        )
    if read_only:
        raise DatabaseError(f"{shown(engine.url)} has the old schema {found}. Run `indexer migrate JOB` once.")


def upgrade(connection: Connection) -> None:
    """Go the way. The transaction of `connection` is about nothing else, and SQLite enforces no foreign keys in it."""
    import alembic.command
    from alembic.config import Config

    on_sqlite = connection.dialect.name == "sqlite"
    if not on_sqlite:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})")
    if revision(connection) == HEAD:
        return  # another program was first
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic.command.upgrade(config, "head")
    if on_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
        raise RuntimeError(f"the migration to {HEAD} would break a foreign key: {broken}")
