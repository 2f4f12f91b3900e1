"""What the page shows of an index: an answer, the labels there are, one video, the runs. Only reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, bindparam, text

from indexer.catalog import lookup
from indexer.catalog.connect import reading
from indexer.config import Job
from indexer.console import clock
from indexer.errors import VIDEO_ERRORS, ConfigError, DecoderCrash, DecodeTimeout, OutOfMemory, OutputError
from indexer.observe import reports
from indexer.records import Video
from indexer.search import Coverage, SearchResult, search
from indexer.search.coverage import coverage
from indexer.search.label_counts import label_counts
from indexer.search.recipes import searched_recipes, standing_results
from indexer.search.semantic import SentenceModel
from indexer.search.shards import Shards, shards_folder
from indexer.search.similar import similar
from indexer.search.span import Span
from indexer.serve.asked import Asked, Example
from indexer.storage import open_storage

RUNS_SHOWN = 50
FAILURES_SHOWN = 50
"""Of each code; the others are counted."""

_BREAKING = (DecoderCrash.code, DecodeTimeout.code, OutOfMemory.code)
_VIDEO = text(
    "SELECT id, uri, fingerprint, size_bytes, modified_at, duration_ms, width, height, codec, average_fps, source,"
    " (SELECT max(code) FROM result WHERE video_id = video.id AND fingerprint = video.fingerprint AND state = 'failed'"
    " AND code IN :breaking) AS broke FROM video WHERE id = :video_id AND gone_at IS NULL"
).bindparams(bindparam("breaking", _BREAKING, expanding=True))
_CODECS = text("SELECT id, codec FROM video WHERE id IN :video_ids").bindparams(bindparam("video_ids", expanding=True))
_PART = text(
    "SELECT part.name FROM result JOIN part ON part.id = result.part_id"
    " WHERE result.video_id = :video_id AND result.recipe_id = :recipe_id"
)
_FAILED = (
    " FROM result JOIN video ON video.id = result.video_id"
    " WHERE result.recipe_id = :recipe_id AND result.state = 'failed' AND gone_at IS NULL"
)
_FAILURE_COUNTS = text(f"SELECT code, count(*) AS n{_FAILED} GROUP BY code")
_FIRST_FAILED = text(f"SELECT uri, code, message, attempts{_FAILED} AND code = :code ORDER BY uri LIMIT {FAILURES_SHOWN}")


@dataclass(frozen=True, slots=True)
class ShownVideo:
    """A video of the catalog."""

    video_id: int
    video: Video
    owner: str
    """The source that it was listed from."""
    duration_seconds: float
    width: int
    height: int
    codec: str
    average_fps: float
    broke: str | None
    """The code of its failure, if a run had to end its decoder."""


@dataclass(frozen=True, slots=True)
class ShownSegment:
    """One row of the index."""

    start_ms: int
    end_ms: int
    scores: Mapping[str, float]
    """Label -> score."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The videos that failed for one reason."""

    code: str
    meaning: str
    cure: str
    retry: bool
    count: int
    videos: tuple[lookup.FailedVideo, ...]
    """The first of them, by uri."""


class Archive:
    """One job and its index. Safe to use from many threads."""

    def __init__(self, job: Job, engine: Engine, recipe_digest: str | None, *, semantic: SentenceModel | None = None) -> None:
        self.job = job
        self._engine = engine
        self._digest = recipe_digest
        self._semantic = semantic
        self._shards = Shards(open_storage(job.output.uri), shards_folder(job.output.uri))
        self._one_at_the_shards = threading.Lock()
        """They remember what they opened; making one takes long, and searches by words need none."""
        self._one_at_the_model = threading.Lock()
        """It remembers phrases."""

    def search(self, asked: Asked, *, limit: int | None = None) -> SearchResult:
        """Raises QueryError, ConfigError, DatabaseError, OutputError."""
        limit = asked.limit if limit is None else limit
        under = asked.under or None
        if example := asked.example:
            with self._one_at_the_shards:
                return self._similar(example, asked.min_score, under, limit)
        with self._one_at_the_model if self._semantic else nullcontext():
            return search(
                self._engine,
                asked.q,
                self._digest,
                min_score=asked.min_score,
                under=under,
                sort=asked.sort,
                limit=limit,
                semantic=self._semantic,
            )

    def labels(self) -> list[tuple[str, int]]:
        """The labels that were seen anywhere, with the number of their segments, the commonest first."""
        with reading(self._engine) as connection:
            return label_counts(connection, searched_recipes(connection, self._digest, None))

    def coverage(self) -> Coverage:
        with reading(self._engine) as connection:
            return coverage(connection, searched_recipes(connection, self._digest, None))

    def video(self, video_id: int) -> ShownVideo | None:
        """None if there is no such video (any more)."""
        with reading(self._engine) as connection:
            row = connection.execute(_VIDEO, {"video_id": video_id}).first()
        if row is None:
            return None
        return ShownVideo(
            video_id=row.id,
            video=Video(row.uri, row.fingerprint, row.size_bytes, row.modified_at),
            owner=row.source,
            duration_seconds=(row.duration_ms or 0) / 1000,
            width=row.width or 0,
            height=row.height or 0,
            codec=row.codec or "",
            average_fps=row.average_fps or 0.0,
            broke=row.broke,
        )

    def codecs(self, video_ids: Iterable[int]) -> dict[int, str]:
        """Of each of these videos."""
        with reading(self._engine) as connection:
            rows = connection.execute(_CODECS, {"video_ids": list(set(video_ids))})
            return {row.id: row.codec or "" for row in rows}

    def segments(self, shown: ShownVideo) -> list[ShownSegment]:
        """All rows of a video, ordered by start, of the results that stand for it. Raises OutputError."""
        with reading(self._engine) as connection:
            recipes = searched_recipes(connection, self._digest, None)
            standing = standing_results(connection, recipes, [shown.video_id]).get(shown.video_id)
            if standing is None:
                return []
            values = {"video_id": shown.video_id, "recipe_id": standing.recipe.recipe_id}
            name = connection.execute(_PART, values).scalar_one()
        storage = open_storage(self.job.output.uri)
        try:
            with storage.open(name) as file:
                columns = ["start_ms", "end_ms", "labels", "scores"]
                rows = pq.read_table(file, columns=columns, filters=[("uri", "=", shown.video.uri)]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise OutputError(f"{storage.uri}/{name} cannot be read: {error}") from error
        return [_segment(row) for row in sorted(rows, key=lambda row: row["start_ms"])]

    def _similar(self, example: Example, min_score: float, under: str | None, limit: int) -> SearchResult:
        shown = self.video(example.video_id)
        if shown is None:
            raise ConfigError(f"there is no video {example.video_id} to find the like of; it may have left the source since")
        span = Span(shown.video.uri, example.start_ms / 1000, example.end_ms / 1000)
        name = f"{shown.video.uri.rpartition('/')[2]} at {clock(span.start_seconds)}"
        return similar(
            self._engine,
            self._shards,
            span,
            self._digest,
            name=name,
            min_score=min_score,
            under=under,
            limit=limit,
            exact=not self._shards.cells.learned,  # nobody waits minutes for a page: `indexer similar` says what it does
        )

    def runs(self) -> list[lookup.RunRow]:
        """The last runs, newest first."""
        return lookup.runs(self._engine, RUNS_SHOWN)

    def report(self, run_id: int) -> bytes | None:
        """The page that a run has left beside the index; None if it has not, or is one of long ago."""
        return reports.read_report(self.job.output.uri, run_id)

    def reported(self, runs: Sequence[lookup.RunRow]) -> set[int]:
        """Those of `runs` whose page is still there."""
        names = reports.reported(self.job.output.uri)
        return {run.run_id for run in runs if reports.report_name(run.run_id) in names}

    @property
    def has_results(self) -> bool:
        """Whether anything was indexed with the settings that the job has now."""
        return lookup.find_recipe(self._engine, self._digest or "") is not None

    def failures(self) -> list[FailureGroup]:
        """Under the job's own recipe, the commonest reason first."""
        recipe_id = lookup.find_recipe(self._engine, self._digest or "")
        with reading(self._engine) as connection:
            counts = {row.code: row.n for row in connection.execute(_FAILURE_COUNTS, {"recipe_id": recipe_id})}
            return [
                _failure_group(code, count, connection.execute(_FIRST_FAILED, {"recipe_id": recipe_id, "code": code}))
                for code, count in sorted(counts.items(), key=lambda group: (-group[1], group[0]))
            ]


def _segment(row: Mapping[str, Any]) -> ShownSegment:
    return ShownSegment(row["start_ms"], row["end_ms"], dict(zip(row["labels"], row["scores"], strict=True)))


def _failure_group(code: str, count: int, first: Iterable[Any]) -> FailureGroup:
    reason = VIDEO_ERRORS[code]
    return FailureGroup(
        code=code,
        meaning=(reason.__doc__ or "").splitlines()[0],
        cure=reason.cure,
        retry=reason.retry,
        count=count,
        videos=tuple(lookup.FailedVideo(*row) for row in first),
    )
