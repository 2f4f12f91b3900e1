"""A run in the catalog: its begin, what it claims to work on, its end.

Each call is one transaction of the run's lease, which may be done twice: the second time changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, select, text, update

from indexer.catalog import tables
from indexer.catalog.lease import Lease, fenced
from indexer.errors import ConfigError
from indexer.records import Recipe, Video

# Two runs may meet for the first time at any of these: whoever is second takes what is there.
_ADD_LABEL = text("INSERT INTO label (label_set, name) VALUES (:label_set, :name) ON CONFLICT (label_set, name) DO NOTHING")
_ADD_RECIPE = text(
    "INSERT INTO recipe (digest, document, label_set, created_at) VALUES (:digest, :document, :label_set, :now)"
    " ON CONFLICT (digest) DO NOTHING"
)
_ADD_RUN = text(
    "INSERT INTO run (job, recipe_id, started_at, lease_token) VALUES (:job, :recipe_id, :started_at, :lease_token)"
    " ON CONFLICT (lease_token) DO NOTHING"
)
_CLAIM_VIDEO = text(
    "INSERT INTO video (uri, source, fingerprint, size_bytes, modified_at)"
    " VALUES (:uri, :source, :fingerprint, :size_bytes, :modified_at)"
    " ON CONFLICT (uri) DO UPDATE SET source = excluded.source, size_bytes = excluded.size_bytes,"
    " modified_at = excluded.modified_at, gone_at = NULL"
)
_CLAIM_RESULT = text(
    "INSERT INTO result (video_id, recipe_id, state, fence, attempts, fingerprint, segments, clips, warnings, updated_at)"
    " SELECT id, :recipe_id, 'pending', :run_id, 1, :fingerprint, 0, 0, '[]', :now FROM video WHERE uri = :uri"
    " ON CONFLICT (video_id, recipe_id) DO UPDATE SET state = 'pending', fence = excluded.fence,"
    " attempts = CASE WHEN result.fingerprint <> excluded.fingerprint THEN 1"
    " WHEN result.state = 'failed' THEN result.attempts + 1 ELSE result.attempts END,"
    " fingerprint = excluded.fingerprint, code = NULL, message = NULL, updated_at = excluded.updated_at"
)


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that was started: what its later calls need."""

    run_id: int
    recipe_id: int
    label_ids: Mapping[str, int]
    lease_token: int
    """Of the lease that the run works under: each of its transactions makes sure that nobody has taken it over."""

    @property
    def labels(self) -> list[str]:
        """All classes of the model, in its order."""
        return sorted(self.label_ids, key=self.label_ids.__getitem__)


def start_run(engine: Engine, *, lease: Lease, recipe: Recipe, labels: Sequence[str]) -> RunRef:
    """Write down that a run of the lease's job began when the lease was taken: the only one under it.

    `labels` are all classes of the model, in its order. ConfigError if one comes twice.
    """
    twice = [name for name, n in Counter(labels).items() if n > 1]
    if twice:
        raise ConfigError(f"model.labels: these names come more than once: {', '.join(twice)}. Make each name unique.")
    now = time.time()

    def work(connection: Connection) -> RunRef:
        label_set, label_ids = make_labels(connection, labels)
        recipe_id = make_recipe_row(connection, recipe, label_set, now)
        values = {"job": lease.job, "recipe_id": recipe_id, "started_at": lease.taken_at, "lease_token": lease.token}
        connection.execute(_ADD_RUN, values)
        run_id = connection.execute(select(tables.run.c.id).where(tables.run.c.lease_token == lease.token)).scalar_one()
        return RunRef(run_id=run_id, recipe_id=recipe_id, label_ids=label_ids, lease_token=lease.token)

    return fenced(engine, lease.token, work)


def finish_run(engine: Engine, run: RunRef, outcome: str, report: Mapping[str, Any]) -> None:
    """Write down how the run ended: complete, partial, stopped or failed. `report` is kept as JSON."""
    values = {"finished_at": time.time(), "outcome": outcome, "report": json.dumps(report, ensure_ascii=False)}
    statement = update(tables.run).where(tables.run.c.id == run.run_id).values(values)
    fenced(engine, run.lease_token, lambda connection: connection.execute(statement))


def claim(engine: Engine, run: RunRef, source: str, videos: Sequence[Video]) -> None:
    """Take `videos` for this run: from now on only it may commit them under its recipe.

    They become pending; what is live of them stays live. `source` is the listing that found them, which owns them from now
    on. `attempts` counts the runs that tried these bytes; one that stopped before it came to them did not. At most some
    thousands a call: one transaction, and others wait for it.
    """
    if not videos:
        return
    now = time.time()

    def work(connection: Connection) -> None:
        claim_rows(connection, run.run_id, run.recipe_id, source, videos, now)

    fenced(engine, run.lease_token, work)


def claim_rows(connection: Connection, run_id: int, recipe_id: int, source: str, videos: Sequence[Video], now: float) -> None:
    """What `claim` does, in a transaction of the caller's."""
    ordered = sorted(videos, key=lambda video: video.uri)
    known = [
        {
            "uri": video.uri,
            "source": source,
            "fingerprint": video.fingerprint,
            "size_bytes": video.size_bytes,
            "modified_at": video.modified_at,
        }
        for video in ordered
    ]
    run_values = {"recipe_id": recipe_id, "run_id": run_id, "now": now}
    claimed = [{"uri": video.uri, "fingerprint": video.fingerprint, **run_values} for video in ordered]
    connection.execute(_CLAIM_VIDEO, known)
    connection.execute(_CLAIM_RESULT, claimed)


def adopt(engine: Engine, run: RunRef, source: str, uris: Sequence[str]) -> None:
    """Make `source` the owner of videos that another listing brought in: its next run notices when they are gone."""
    if uris:
        statement = update(tables.video).where(tables.video.c.uri == bindparam("adopted")).values(source=source)
        adopted = [{"adopted": uri} for uri in sorted(uris)]
        fenced(engine, run.lease_token, lambda connection: connection.execute(statement, adopted))


def make_labels(connection: Connection, labels: Sequence[str]) -> tuple[str, dict[str, int]]:
    """The short digest of these names in this order, and the id of each name."""
    label_set = hashlib.sha256(json.dumps(list(labels)).encode()).hexdigest()[:12]
    ids = select(tables.label.c.name, tables.label.c.id).where(tables.label.c.label_set == label_set)
    stored = connection.execute(ids).all()
    if len(stored) < len(labels):
        connection.execute(_ADD_LABEL, [{"label_set": label_set, "name": name} for name in labels])
        stored = connection.execute(ids).all()
    return label_set, {name: label_id for name, label_id in stored}


def make_recipe_row(connection: Connection, recipe: Recipe, label_set: str, now: float) -> int:
    """The id of this recipe."""
    table = tables.recipe
    stored = select(table.c.id, table.c.label_set).where(table.c.digest == recipe.digest)
    row = connection.execute(stored).one_or_none()
    if row is None:  # asked first, as PostgreSQL spends one of 32,767 ids on every attempt to insert
        values = {"digest": recipe.digest, "document": recipe.document, "label_set": label_set, "now": now}
        connection.execute(_ADD_RECIPE, values)
        row = connection.execute(stored).one()
    if row.label_set != label_set:
        raise ValueError(f"recipe {recipe.digest} came with other labels before: it must cover them")
    return int(row.id)
