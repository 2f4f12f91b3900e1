"""What the catalog knows of recipes, runs and failures, for `status` and its like. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Engine, and_, case, func, select

from indexer.catalog.connect import reading
from indexer.catalog.lease import held_tokens
from indexer.catalog.tables import label, part, recipe, result, run, video

_URIS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of the history."""

    run_id: int
    job: str
    recipe_digest: str
    started_at: float
    """Unix time in seconds, as finished_at."""
    finished_at: float | None
    """None: not over, or killed."""
    running: bool
    """Whether it is at work now."""
    outcome: str | None
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """A video that could not be indexed under one recipe."""

    uri: str
    code: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is under one recipe. Videos that are gone count only as `gone`."""

    videos: Mapping[str, int]
    """State -> number of videos; all of pending, indexed, failed, skipped, gone."""
    video_seconds: float
    """Length of the videos whose rows are live, as are the segments and clips."""
    segments: int
    clips: int
    parts: int
    """Live parts; retired ones wait for `gc`."""
    part_bytes: int


def find_recipe(engine: Engine, digest: str) -> int | None:
    """The id of a recipe, None if no run has used it."""
    with reading(engine) as connection:
        return connection.execute(select(recipe.c.id).where(recipe.c.digest == digest)).scalar()


def label_names(engine: Engine, recipe_id: int) -> dict[int, str]:
    """Label id -> name, of all labels the recipe's model can give."""
    statement = select(label.c.id, label.c.name).join(recipe, recipe.c.label_set == label.c.label_set)
    with reading(engine) as connection:
        return {row.id: row.name for row in connection.execute(statement.where(recipe.c.id == recipe_id))}


def awaited_videos(engine: Engine, uris: Sequence[str]) -> set[tuple[str, str, str]]:
    """(uri, recipe digest, fingerprint) of those of these videos that a run has begun and none has finished."""
    found = set()
    statement = select(video.c.uri, recipe.c.digest, result.c.fingerprint).join_from(result, video).join(recipe)
    pending = and_(result.c.state == "pending", video.c.gone_at.is_(None))
    with reading(engine) as connection:
        for first in range(0, len(uris), _URIS_PER_QUERY):
            some = video.c.uri.in_(uris[first : first + _URIS_PER_QUERY])
            found |= {tuple(row) for row in connection.execute(statement.where(pending, some))}
    return found


def runs(engine: Engine, limit: int, *, job: str | None = None) -> list[RunRow]:
    """The last runs, or those of one `job`, newest first."""
    statement = select(run, recipe.c.digest).join(recipe).order_by(run.c.id.desc()).limit(limit)
    if job is not None:
        statement = statement.where(run.c.job == job)
    with reading(engine) as connection:
        held = held_tokens(connection)
        return [
            RunRow(
                run_id=row.id,
                job=row.job,
                recipe_digest=row.digest,
                started_at=row.started_at,
                finished_at=row.finished_at,
                running=row.finished_at is None and row.lease_token in held,
                outcome=row.outcome,
                report=json.loads(row.report or "{}"),
            )
            for row in connection.execute(statement)
        ]


def working_runs(engine: Engine, job: str, recipe_id: int, limit: int) -> list[Mapping[str, Any]]:
    """The reports of the last runs of `job` under a recipe that ended by themselves and indexed something, newest first."""
    ended = run.c.outcome.in_(("complete", "partial", "stopped"))
    statement = select(run.c.report).where(run.c.job == job, run.c.recipe_id == recipe_id, ended).order_by(run.c.id.desc())
    with reading(engine) as connection:
        # Years of nights without news may lie between them: only as many are read as it takes.
        found = connection.execution_options(yield_per=100).execute(statement).scalars()
        return list(islice((report for report in map(json.loads, found) if report.get("video_seconds", 0.0) > 0), limit))


def last_success(engine: Engine, job: str) -> float | None:
    """Unix time in seconds at which a run of `job` last ended complete or partial; None if none did."""
    statement = select(func.max(run.c.finished_at)).where(run.c.job == job, run.c.outcome.in_(("complete", "partial")))
    with reading(engine) as connection:
        return connection.execute(statement).scalar()


def failures(engine: Engine, recipe_id: int) -> list[FailedVideo]:
    """The failed videos of a recipe, by uri."""
    statement = (
        select(video.c.uri, result.c.code, result.c.message, result.c.attempts)
        .join_from(result, video)
        .where(result.c.recipe_id == recipe_id, result.c.state == "failed")
        .order_by(video.c.uri)
    )
    with reading(engine) as connection:
        return [FailedVideo(*row) for row in connection.execute(statement)]


def unseen(engine: Engine, recipe_id: int) -> list[FailedVideo]:
    """The folders and videos that the last finished run of a recipe could not look at, and whose results it left alone."""
    ended = and_(run.c.recipe_id == recipe_id, run.c.report.is_not(None))
    with reading(engine) as connection:
        report = connection.execute(select(run.c.report).where(ended).order_by(run.c.id.desc()).limit(1)).scalar()
    return [FailedVideo(**one, attempts=1) for one in json.loads(report or "{}").get("unseen", [])]


def totals(engine: Engine, recipe_id: int) -> Totals:
    """The sums for `status`, all of one moment."""
    state = case((video.c.gone_at.is_not(None), "gone"), else_=result.c.state)
    of_recipe = result.c.recipe_id == recipe_id
    live = and_(of_recipe, result.c.part_id.is_not(None))
    with reading(engine) as connection:
        states = connection.execute(
            select(state, func.count()).join_from(result, video).where(of_recipe).group_by(state)
        ).all()
        milliseconds, segments, clips = connection.execute(
            select(func.sum(video.c.duration_ms), func.sum(result.c.segments), func.sum(result.c.clips))
            .join_from(result, video)
            .where(live)
        ).one()
        parts, part_bytes = connection.execute(
            select(func.count(), func.sum(part.c.bytes)).where(part.c.recipe_id == recipe_id, part.c.state == "live")
        ).one()
    return Totals(
        videos=dict.fromkeys(("pending", "indexed", "failed", "skipped", "gone"), 0) | {name: n for name, n in states},
        video_seconds=float(milliseconds or 0) / 1000,  # PostgreSQL sums to its own kind of number
        segments=segments or 0,
        clips=clips or 0,
        parts=parts,
        part_bytes=int(part_bytes or 0),
    )
