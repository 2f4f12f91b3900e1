"""One video, taken out of the catalog: first out of sight, and in the end without a trace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, delete, select, update

from indexer.catalog.hits import count_hits
from indexer.catalog.lease import end_free_leases, fenced, others_at_work
from indexer.catalog.parts import retire_unnamed
from indexer.catalog.results import change, lock_results, withdraw
from indexer.catalog.tables import result, run, video
from indexer.errors import RunHeld

_URIS_AT_ONCE = 10_000


def is_known(connection: Connection, uri: str) -> bool:
    """Also if the video is gone."""
    return connection.execute(select(video.c.id).where(video.c.uri == uri)).first() is not None


def known_uris(connection: Connection) -> Iterator[str]:
    """All, in no order."""
    rows = connection.execute(select(video.c.uri), execution_options={"yield_per": _URIS_AT_ONCE})
    yield from rows.scalars()


def hide(engine: Engine, lease_token: int, uri: str) -> None:
    """Take all rows of the video out of the index, as if it were gone. Its name stays, so that this can be gone on with.

    Raises RunHeld if another job is at work.
    """
    now = time.time()

    def work(connection: Connection) -> None:
        end_free_leases(connection, lease_token)
        if others_at_work(connection, lease_token):
            raise RunHeld("Another job is at work on this index, and could have the video in hand. Let it end, or stop it.")
        _overwrite(connection)
        known = lock_results(connection, [uri])
        withdrawn = withdraw(connection, known, now)
        change(connection, known, {"fence": None, "state": "pending", "code": None, "message": None})
        connection.execute(update(video).where(video.c.uri == uri).values(gone_at=now))
        retire_unnamed(connection, withdrawn.part_ids, now)
        count_hits(connection, added=Counter(), removed=withdrawn.hits)

    fenced(engine, lease_token, work)


def erase(engine: Engine, lease_token: int, uri: str) -> None:
    """Forget even its name. It was hidden before.

    Raises RunHeld if a run has begun since: what it wrote of the video was not looked for.
    """

    def work(connection: Connection) -> None:
        if connection.execute(select(run.c.id).where(run.c.lease_token > lease_token).limit(1)).first() is not None:
            raise RunHeld(
                "Another job has begun meanwhile, and may have found the video again. Let it end, then run this again."
            )
        _overwrite(connection)
        of_video = select(video.c.id).where(video.c.uri == uri).scalar_subquery()
        connection.execute(delete(result).where(result.c.video_id == of_video))
        connection.execute(delete(video).where(video.c.uri == uri))

    fenced(engine, lease_token, work)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:  # the log of changes has older pages
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _overwrite(connection: Connection) -> None:
    """SQLite leaves what was deleted in its file until the space is needed, unless it is told to write zeros there."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON").close()
