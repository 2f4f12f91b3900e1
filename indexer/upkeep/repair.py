"""`indexer check --repair`: what is damaged becomes work for the next run, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.parts import list_parts
from indexer.catalog.repair import recount, requeue
from indexer.errors import ConfigError, DatabaseError
from indexer.upkeep.findings import CURES, Finding


def repair(engine: Engine, lease_token: int, findings: Sequence[Finding], *, force: bool) -> list[str]:
    """Take all rows that cannot be relied on out of the index; their results are pending. Gives the uris, in order.

    Raises DatabaseError for a database that is damaged itself, and, without `force`, ConfigError if most parts are not there.
    """
    codes = [finding.code for finding in findings]
    if "database_damaged" in codes:
        raise DatabaseError(f"The catalog itself is damaged: nothing was changed. {CURES['database_damaged']}")
    damaged = sorted({one for finding in findings for one in finding.damaged})
    missing, live = codes.count("part_missing"), _live_parts(engine)
    if 2 * missing > live and not force:
        raise ConfigError(
            f"{missing:,} of {live:,} parts are not there: nothing was changed. Is output.uri the right place, and mounted? If"
            " they are really lost, --force lets the next run make their videos again."
        )
    if any(finding.is_fault for finding in findings):
        requeue(engine, lease_token, damaged)
        recount(engine, lease_token)
    return sorted({one.uri for one in damaged})


def _live_parts(engine: Engine) -> int:
    with reading(engine) as connection:
        return sum(part.state == "live" for part in list_parts(connection))
