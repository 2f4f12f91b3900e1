"""Making the catalog true again: damaged results are work for the next run, and summaries are counted anew."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, Engine, delete, exists, text, update

from indexer.catalog.audit import OneResult
from indexer.catalog.hits import count_hits, remove_hits
from indexer.catalog.lease import fenced
from indexer.catalog.parts import retire_unnamed
from indexer.catalog.results import NO_ROWS, change, lock_results
from indexer.catalog.tables import hit, part, result

_RESULTS_AT_ONCE = 2_000

_COUNT_ANEW = text(
    "INSERT INTO label_stat (recipe_id, label_id, bucket, n)"
    " SELECT recipe_id, label_id, CASE WHEN score >= 10000 THEN 9 ELSE score / 1000 END, count(*) FROM hit GROUP BY 1, 2, 3"
)


def requeue(engine: Engine, lease_token: int, damaged: Sequence[OneResult]) -> None:
    """Take the rows of these results out of the index, as far as there are any. The results are pending: the next run of
    their recipe does these videos again."""
    for first in range(0, len(damaged), _RESULTS_AT_ONCE):
        fenced(engine, lease_token, partial(_requeue, damaged=set(damaged[first : first + _RESULTS_AT_ONCE])))


def recount(engine: Engine, lease_token: int) -> None:
    """Delete hits of no live result, count all others anew, and set the states of parts by the results that name them."""

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # who adds hits counts them last, and waits here
            connection.exec_driver_sql("LOCK TABLE label_stat IN EXCLUSIVE MODE")
        of_hit = (result.c.video_id == hit.c.video_id) & (result.c.recipe_id == hit.c.recipe_id)
        connection.execute(delete(hit).where(~exists().where(of_hit, result.c.part_id.is_not(None))))
        connection.exec_driver_sql("DELETE FROM label_stat")
        connection.execute(_COUNT_ANEW)
        named = exists().where(result.c.part_id == part.c.id)
        connection.execute(update(part).where(part.c.state == "retired", named).values(state="live", retired_at=None))
        connection.execute(update(part).where(part.c.state == "live", ~named).values(state="retired", retired_at=time.time()))

    fenced(engine, lease_token, work)


def _requeue(connection: Connection, damaged: set[OneResult]) -> None:
    now = time.time()
    known = lock_results(connection, sorted({one.uri for one in damaged}))
    rows = [row for row in known if OneResult(row.uri, row.recipe_id) in damaged]
    video_ids: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        video_ids[row.recipe_id].append(row.video_id)
    for recipe_id, ids in sorted(video_ids.items()):
        count_hits(connection, added=Counter(), removed=remove_hits(connection, recipe_id, ids))
    change(connection, rows, {**NO_ROWS, "state": "pending", "code": None, "message": None, "updated_at": now})
    retire_unnamed(connection, {row.part_id for row in rows if row.part_id is not None}, now)
