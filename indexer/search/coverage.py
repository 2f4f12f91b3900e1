"""How much of what was found is indexed, which every answer says.

All results are counted for it: 13 ms for a hundred thousand videos, more than finding the newest moments takes. So a program
that goes on asks the database first whether anything has changed since it counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, text

from indexer.search.recipes import SearchedRecipe

_COUNTED = "indexer.coverage"
"""In the notes of a connection of the pool."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what was found in the sources the search could look into. Videos that are gone do not count."""

    videos: int
    """Those with something to index: indexed + failed + pending."""
    indexed: int
    """With results that are searched, even if a later attempt failed or is still to come."""
    failed: int
    pending: int
    skipped: int

    def as_document(self) -> dict[str, int]:
        return asdict(self)


def coverage(connection: Connection, recipes: Sequence[SearchedRecipe]) -> Coverage:
    """Of all videos of the catalog, by their results under these recipes, in the view of this connection."""
    asked = (tuple(recipe.recipe_id for recipe in recipes), _view(connection))
    counted: tuple[object, Coverage] | None = connection.info.get(_COUNTED)
    if counted is None or counted[0] != asked:
        counted = connection.info[_COUNTED] = (asked, _count(connection, recipes))
    return counted[1]


def _view(connection: Connection) -> tuple[object, ...]:
    """Equal for two views of one connection only if they see the same."""
    if connection.dialect.name == "postgresql":
        return (connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar_one(),)
    # The first changes with the commits of others only, the second with its own changes.
    others = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
    return others, connection.connection.dbapi_connection.total_changes  # type: ignore[union-attr]


def _count(connection: Connection, recipes: Sequence[SearchedRecipe]) -> Coverage:
    values: dict[str, Any] = {f"recipe_{number}": recipe.recipe_id for number, recipe in enumerate(recipes)}
    results = "SELECT part_id, state FROM result WHERE recipe_id = :recipe_0"
    if len(recipes) > 1:
        # Results that are live under any of them are searched; a failure counts if no other recipe waits to try.
        results = (
            "SELECT max(part_id) AS part_id, coalesce(max(CASE WHEN state = 'pending' THEN state END),"
            " max(CASE WHEN state = 'failed' THEN state END), max(state)) AS state"
            f" FROM result WHERE recipe_id IN (:{', :'.join(values)}) GROUP BY video_id"
        )
    # One recipe's results are counted in the order of an index, without the table.
    counted = text(f"SELECT state, count(part_id) AS live, count(*) AS n FROM ({results}) AS results GROUP BY state")
    rows = connection.execute(counted, values).all() if recipes else []
    indexed = sum(int(row.live) for row in rows)
    rest = {row.state: int(row.n) - int(row.live) for row in rows}
    there = connection.execute(text("SELECT count(*) FROM video WHERE gone_at IS NULL")).scalar_one()
    failed, skipped = (rest.get(state, 0) for state in ("failed", "skipped"))
    # The results of videos that are gone are pending, too: those are counted by what remains.
    videos = there - skipped
    return Coverage(videos=videos, indexed=indexed, failed=failed, pending=videos - indexed - failed, skipped=skipped)
