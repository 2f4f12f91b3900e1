"""Filling a catalog from what parts say: in one transaction, so that it is as before or complete."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, insert, text

from indexer.catalog import tables
from indexer.catalog.hits import Counts, add_hits, count_hits
from indexer.catalog.lease import Lease, end_free_leases, fenced, others_at_work
from indexer.catalog.parts import add_part, retire_unnamed
from indexer.catalog.results import describe_videos, lock_results, store
from indexer.catalog.runs import claim_rows, make_labels, make_recipe_row
from indexer.errors import RunHeld
from indexer.records import IndexedVideo, Part, Recipe

REBUILT = "rebuilt"
"""The outcome of a run of which only its parts are left."""

# In the order of their references. Labels and recipes stay: PostgreSQL has 32,767 ids for each, and never gives one again.
_EMPTIED = ("hit", "label_stat", "result", "part", "video", "run")
_KEEP_OTHERS_OUT = text("LOCK TABLE run, video, result, part IN SHARE ROW EXCLUSIVE MODE")
_PATIENT = text("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")  # parts may come from far away
_COUNT_RUNS_ON = text(
    "SELECT setval(s, GREATEST(nextval(s), (SELECT max(id) FROM run))) FROM pg_get_serial_sequence('run', 'id') AS s"
)


@dataclass(frozen=True, slots=True)
class StandingPart:
    """A part, and what of it counts."""

    part: Part
    run_id: int
    recipe: Recipe
    videos: Mapping[tuple[int, str], Sequence[IndexedVideo]]
    """By the run that indexed them, and the listing that owns them. None if other parts have later rows of all."""


def restore(
    engine: Engine,
    lease: Lease,
    runs: Mapping[int, tuple[Recipe, float]],
    labels: Mapping[str, Sequence[str]],
    parts: Callable[[], Iterator[StandingPart]],
) -> None:
    """Replace all videos, results and runs of the catalog by what these parts say.

    `parts` may be called again, after a lost connection.

    `runs` are those of the parts, with the recipe and the unix time of each; `labels` those of each recipe digest. Raises
    RunHeld if another job is at work.
    """

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(_PATIENT)
            connection.execute(_KEEP_OTHERS_OUT)
        end_free_leases(connection, lease.token)
        if others_at_work(connection, lease.token):
            raise RunHeld("Another job is at work on this catalog. Let it end, or stop it.")
        for name in _EMPTIED:
            connection.execute(delete(tables.metadata.tables[name]))
        label_ids = _fill_runs(connection, lease.job, runs, labels)
        counts: Counts = Counter()
        for standing in parts():
            counts += _fill_part(connection, standing, *label_ids[standing.recipe.digest])
        count_hits(connection, added=counts, removed=Counter())

    fenced(engine, lease.token, work)


def _fill_runs(
    connection: Connection, job: str, runs: Mapping[int, tuple[Recipe, float]], labels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, dict[str, int]]]:
    """Recipe digest -> its id, and the ids of its labels."""
    made: dict[str, tuple[int, dict[str, int]]] = {}
    for run_id, (recipe, at) in sorted(runs.items()):
        if recipe.digest not in made:
            label_set, label_ids = make_labels(connection, labels[recipe.digest])
            made[recipe.digest] = make_recipe_row(connection, recipe, label_set, at), label_ids
        values = {
            "id": run_id, "job": job, "recipe_id": made[recipe.digest][0], "started_at": at, "finished_at": at,
            "outcome": REBUILT, "lease_token": -run_id,
        }  # fmt: skip
        connection.execute(insert(tables.run).values(values))
    if runs and connection.dialect.name == "postgresql":
        connection.execute(_COUNT_RUNS_ON)  # SQLite does so by itself
    return made


def _fill_part(connection: Connection, standing: StandingPart, recipe_id: int, label_ids: dict[str, int]) -> Counts:
    """Add a part and the results of its videos. Gives what is to be counted."""
    now = time.time()
    part_id = add_part(connection, standing.part, run_id=standing.run_id, recipe_id=recipe_id, now=now)
    if part_id is None:
        raise ValueError(f"{standing.part.name} comes twice")
    videos: dict[str, IndexedVideo] = {}
    for (run_id, source), some in sorted(standing.videos.items()):
        claim_rows(connection, run_id, recipe_id, source, [indexed.video for indexed in some], now)
        videos |= {indexed.video.uri: indexed for indexed in some}
    rows = [row for row in lock_results(connection, sorted(videos)) if row.recipe_id == recipe_id]
    done = [(row.video_id, videos[row.uri]) for row in rows]
    store(connection, recipe_id, part_id, done, now)
    describe_videos(connection, done)
    retire_unnamed(connection, {part_id}, now)
    return add_hits(connection, recipe_id, label_ids, done)
