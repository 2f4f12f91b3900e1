"""THE transaction: the only place where rows become visible, are replaced, or go.

    start_run -> claim -> (the work, write_part) -> commit -> finish_run
                    also:  mark_gone                                          all of them can be imported from here

    state   (none) --claim--> pending --commit--> indexed | failed | skipped --claim--> pending ...
    rows                      the old ones        new ones | none            stay live

After a commit all live rows of a video, under every recipe, speak of the same bytes: those of its last commit. A result has
a fence, the run that claimed it last; a commit by any other run changes nothing, and a run that lost its lease commits
nothing at all. Counts, hits, parts and states change together or not at all.

The connection may be lost while COMMIT is on its way. The transaction is done again then, and finds its part by name if it
was there already; without a part, it sets what is set. The rows of `video` that it locks first make it wait for the other.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, Row, bindparam, exists, select, text, update

from indexer.catalog.hits import Counts, add_hits, count_hits, remove_hits
from indexer.catalog.lease import fenced
from indexer.catalog.runs import RunRef, adopt, claim, finish_run, start_run
from indexer.catalog.tables import part as part_table
from indexer.catalog.tables import result, video
from indexer.records import Failure, IndexedVideo, Outcome, Part, Skipped

__all__ = ["CommitReport", "RunRef", "adopt", "claim", "commit", "finish_run", "mark_gone", "start_run"]

_URIS_PER_QUERY = 500

_Result: TypeAlias = Row[Any]

_ADD_PART = text(
    "INSERT INTO part (name, run_id, recipe_id, rows, bytes, sha256, state, created_at)"
    " VALUES (:name, :run_id, :recipe_id, :rows, :bytes, :sha256, 'live', :now) ON CONFLICT (name) DO NOTHING RETURNING id"
)

_NO_ROWS = {"part_id": None, "indexed_fingerprint": None, "segments": 0, "clips": 0, "warnings": "[]"}
_NO_INFO = {"duration_ms": None, "width": None, "height": None, "codec": None, "average_fps": None}


@dataclass(frozen=True, slots=True)
class CommitReport:
    """Which outcomes of one commit count."""

    committed: tuple[str, ...]
    """URIs, in the order given."""
    dropped: tuple[str, ...]
    """URIs that another run has claimed, or whose bytes changed or went, since this run claimed them. Nothing was stored."""


def commit(engine: Engine, run: RunRef, part: Part | None, outcomes: Sequence[Outcome]) -> CommitReport:
    """Make the outcomes true, all at once: the rows of `part`, which is durable already, replace what its videos had.

    A failure or skip takes the old rows away too: the bytes they spoke of are no longer there. So does any outcome for the
    rows of other recipes that speak of other bytes; those results are pending again. Every outcome was claimed before; one
    commit names a video once, and a second naming in a manifest (skip reason `duplicate`) never comes here.
    """
    by_uri = {outcome.video.uri: outcome for outcome in outcomes}
    if len(by_uri) != len(outcomes):
        raise ValueError("one commit has two outcomes for one video")
    if part is None and any(isinstance(outcome, IndexedVideo) for outcome in outcomes):
        raise ValueError("indexed videos need the part that holds their rows")
    if any(isinstance(outcome, Skipped) and outcome.reason == "duplicate" for outcome in outcomes):
        raise ValueError("a duplicate shares its uri with a video that has an outcome of its own")
    now = time.time()

    def work(connection: Connection) -> CommitReport:
        known = _locked(connection, sorted(by_uri))
        mine = {row.uri: row for row in known if row.recipe_id == run.recipe_id and row.fence == run.run_id}
        report = CommitReport(
            committed=tuple(uri for uri in by_uri if uri in mine),
            dropped=tuple(uri for uri in by_uri if uri not in mine),
        )
        part_id = None if part is None else _insert_part(connection, run, part, now)
        if part is not None and part_id is None:
            return report  # it is committed: only the answer was lost
        others = [row for row in known if row.uri in mine and row.recipe_id != run.recipe_id]
        fingerprints = {uri: by_uri[uri].video.fingerprint for uri in mine}
        outdated = [row for row in others if row.indexed_fingerprint not in (None, fingerprints[row.uri])]
        withdrawn = _withdraw(connection, [*mine.values(), *outdated], now)
        _void_claims(connection, [row for row in others if row.fingerprint != fingerprints[row.uri]])

        done = [(row.video_id, by_uri[uri]) for uri, row in mine.items()]
        indexed = [(video_id, outcome) for video_id, outcome in done if isinstance(outcome, IndexedVideo)]
        added = add_hits(connection, run.recipe_id, run.label_ids, indexed)
        _store_results(connection, run.recipe_id, part_id, done, now)
        _describe_videos(connection, done)
        _retire(connection, withdrawn.part_ids if part_id is None else withdrawn.part_ids | {part_id}, now)
        count_hits(connection, added=added, removed=withdrawn.hits)
        return report

    return fenced(engine, run.lease_token, work)


def mark_gone(engine: Engine, run: RunRef, uris: Sequence[str]) -> None:
    """Take the rows of videos that left their source out of the index, under every recipe.

    Their claims are void. A video that a later run has claimed is left alone: that run saw it.
    """
    now = time.time()

    def work(connection: Connection) -> None:
        known = _locked(connection, sorted(set(uris)))
        seen_later = {row.uri for row in known if row.fence is not None and row.fence > run.run_id}
        gone = [row for row in known if row.uri not in seen_later]
        withdrawn = _withdraw(connection, gone, now)
        _update_results(connection, gone, {"fence": None, "state": "pending", "code": None, "message": None})
        if gone:
            connection.execute(
                update(video).where(video.c.id == bindparam("gone_id")).values(gone_at=now),
                [{"gone_id": video_id} for video_id in sorted({row.video_id for row in gone})],
            )
        _retire(connection, withdrawn.part_ids, now)
        count_hits(connection, added=Counter(), removed=withdrawn.hits)

    fenced(engine, run.lease_token, work)


def _locked(connection: Connection, uris: Sequence[str]) -> list[_Result]:
    """The results of these videos under all recipes.

    Whoever changes results locks the rows of their videos first, in one order: so what is read after that stays true.
    """
    rows: list[_Result] = []
    for first in range(0, len(uris), _URIS_PER_QUERY):
        some = video.c.uri.in_(uris[first : first + _URIS_PER_QUERY])
        connection.execute(select(video.c.id).where(some).order_by(video.c.uri).with_for_update()).all()
        rows.extend(
            connection.execute(
                select(
                    video.c.uri,
                    result.c.video_id,
                    result.c.recipe_id,
                    result.c.fence,
                    result.c.part_id,
                    result.c.fingerprint,
                    result.c.indexed_fingerprint,
                )
                .join_from(video, result)
                .where(some)
                .order_by(video.c.uri, result.c.recipe_id)
            )
        )
    return rows


def _insert_part(connection: Connection, run: RunRef, part: Part, now: float) -> int | None:
    """The id of the new row; None if this part is there already."""
    values = {
        "name": part.name,
        "run_id": run.run_id,
        "recipe_id": run.recipe_id,
        "rows": part.rows,
        "bytes": part.size_bytes,
        "sha256": part.sha256,
        "now": now,
    }
    part_id: int | None = connection.execute(_ADD_PART, values).scalar()
    if part_id is None:
        there = select(part_table.c.run_id, part_table.c.sha256).where(part_table.c.name == part.name)
        if tuple(connection.execute(there).one()) != (run.run_id, part.sha256):
            raise ValueError(f"{part.name} is the name of another part")
    return part_id


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    hits: Counts
    part_ids: set[int]
    """Parts that lost rows."""


def _withdraw(connection: Connection, rows: Iterable[_Result], now: float) -> _Withdrawn:
    """Take the rows of these results out of the index; the results are pending."""
    live = [row for row in rows if row.part_id is not None]
    by_recipe: dict[int, list[int]] = defaultdict(list)
    for row in live:
        by_recipe[row.recipe_id].append(row.video_id)
    hits: Counts = Counter()
    for recipe_id, video_ids in sorted(by_recipe.items()):
        hits += remove_hits(connection, recipe_id, video_ids)
    _update_results(connection, live, {**_NO_ROWS, "state": "pending", "updated_at": now})
    return _Withdrawn(hits, {row.part_id for row in live})


def _void_claims(connection: Connection, rows: Iterable[_Result]) -> None:
    """Nobody may commit these results until they are claimed again."""
    _update_results(connection, [row for row in rows if row.fence is not None], {"fence": None})


def _update_results(connection: Connection, rows: Sequence[_Result], values: dict[str, Any]) -> None:
    if rows:
        connection.execute(
            update(result)
            .where(result.c.video_id == bindparam("of_video"), result.c.recipe_id == bindparam("of_recipe"))
            .values(values),
            [{"of_video": row.video_id, "of_recipe": row.recipe_id} for row in rows],
        )


def _store_results(
    connection: Connection, recipe_id: int, part_id: int | None, done: Sequence[tuple[int, Outcome]], now: float
) -> None:
    if not done:
        return
    columns = ("state", "code", "message", "fingerprint", *_NO_ROWS)
    connection.execute(
        update(result)
        .where(result.c.video_id == bindparam("of_video"), result.c.recipe_id == recipe_id)
        .values({column: bindparam(f"new_{column}") for column in columns} | {"updated_at": now}),
        [
            {"of_video": video_id} | {f"new_{column}": value for column, value in _state(outcome, part_id).items()}
            for video_id, outcome in done
        ],
    )


def _state(outcome: Outcome, part_id: int | None) -> dict[str, Any]:
    values = {"fingerprint": outcome.video.fingerprint, "code": None, "message": None, **_NO_ROWS}
    match outcome:
        case IndexedVideo():
            return values | {
                "state": "indexed",
                "part_id": part_id,
                "indexed_fingerprint": outcome.video.fingerprint,
                "segments": len(outcome.segments),
                "clips": sum(segment.clips for segment in outcome.segments),
                "warnings": json.dumps(outcome.warnings),
            }
        case Failure():
            return values | {"state": "failed", "code": outcome.code, "message": _storable(outcome.message)}
        case Skipped():
            return values | {"state": "skipped", "code": outcome.reason}


def _storable(message: str) -> str:
    """Messages quote what decoders say of damaged files: databases refuse half characters and NUL."""
    return message.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def _describe_videos(connection: Connection, done: Iterable[tuple[int, Outcome]]) -> None:
    """Keep what is known of the committed bytes. Without new knowledge, that of other bytes is forgotten."""
    known, unknown = [], []
    for video_id, outcome in done:
        row = {"of_video": video_id, "new_fingerprint": outcome.video.fingerprint}
        if isinstance(outcome, IndexedVideo):
            info = outcome.info
            facts = (round(1000 * info.duration_seconds), info.width, info.height, info.codec, info.average_fps)
            known.append(row | {f"new_{column}": fact for column, fact in zip(_NO_INFO, facts, strict=True)})
        else:
            unknown.append(row)
    described = update(video).where(video.c.id == bindparam("of_video")).values(fingerprint=bindparam("new_fingerprint"))
    if known:
        connection.execute(described.values({column: bindparam(f"new_{column}") for column in _NO_INFO}), known)
    if unknown:
        connection.execute(described.where(video.c.fingerprint != bindparam("new_fingerprint")).values(_NO_INFO), unknown)


def _retire(connection: Connection, part_ids: set[int], now: float) -> None:
    """Retire those of the parts that no result names any more."""
    ids = sorted(part_ids)
    # Another writer may be taking the other rows of a part: whoever is second looks after the first is done.
    connection.execute(
        select(part_table.c.id).where(part_table.c.id.in_(ids)).order_by(part_table.c.id).with_for_update()
    ).all()
    named = exists().where(result.c.part_id == part_table.c.id)
    connection.execute(update(part_table).where(part_table.c.id.in_(ids), ~named).values(state="retired", retired_at=now))
