"""One video, taken out of the catalog: first out of sight, and in the end without a trace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, delete, select, update

from indexer.catalog.hits import count_hits
from indexer.catalog.lease import fenced
from indexer.catalog.parts import retire_unnamed
from indexer.catalog.results import change, lock_results, withdraw
from indexer.catalog.tables import result, video

_URIS_AT_ONCE = 10_000


def is_known(connection: Connection, uri: str) -> bool:
    """Also if the video is gone."""
    return connection.execute(select(video.c.id).where(video.c.uri == uri)).first() is not None


def known_uris(connection: Connection) -> Iterator[str]:
    """All, in no order."""
    rows = connection.execute(select(video.c.uri), execution_options={"yield_per": _URIS_AT_ONCE})
    yield from rows.scalars()


def hide(engine: Engine, lease_token: int, uri: str) -> None:
    """Take all rows of the video out of the index, as if it were gone. Its name stays, so that this can be gone on with."""
    now = time.time()

    def work(connection: Connection) -> None:
        _overwrite(connection)
        known = lock_results(connection, [uri])
        withdrawn = withdraw(connection, known, now)
        change(connection, known, {"fence": None, "state": "pending", "code": None, "message": None})
        connection.execute(update(video).where(video.c.uri == uri).values(gone_at=now))
        retire_unnamed(connection, withdrawn.part_ids, now)
        count_hits(connection, added=Counter(), removed=withdrawn.hits)

    fenced(engine, lease_token, work)


def erase(engine: Engine, lease_token: int, uri: str) -> None:
    """Forget even its name. It was hidden before."""

    def work(connection: Connection) -> None:
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
