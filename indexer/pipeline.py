"""The story on one page: plan what is to do, process it, commit it in parts, say how it went.

    list + known -> diff -> claim -> units -> executor -> outcomes -> part file -> ONE transaction -> report

What a killed run loses is what was not committed yet: at most COMMIT_SECONDS of finished videos, and the ones at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine

from indexer.catalog import lookup
from indexer.catalog.anew import holds_results
from indexer.catalog.commit import RunRef, adopt, claim, commit, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.known import KnownVideos
from indexer.catalog.lease import acquire
from indexer.config import Job
from indexer.execute.base import Executor, WorkMeter
from indexer.figures import GOOD, figures
from indexer.infer.modes import loading
from indexer.plan.diff import Plan, check_missing, diff
from indexer.plan.listing import list_source
from indexer.plan.units import plan_units
from indexer.recipe import make_recipe
from indexer.records import Failure, IndexedVideo, Outcome, Recipe, Video
from indexer.report import Reporter, Tally
from indexer.storage import open_storage
from indexer.storage.source import Presence
from indexer.write.parquet import FOLDER, write_part
from indexer.write.staging import Staging

Item = TypeVar("Item")

COMMIT_SECONDS = 30.0
COMMIT_ROWS = 128_000
"""A part is written when it has this many rows, or when its first video waits this long."""
FIGURES_SECONDS = 5.0
"""Those who watch the machines see new figures so often; Ray passes them on every ten seconds."""
CLAIM_VIDEOS = 2_000
GONE_VIDEOS = 500


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about one run."""

    limit: int | None = None
    """Work on at most this many videos."""
    retry_failed: bool = False
    deadline: float | None = None
    """Unix time in seconds after which no video, and no range of a long one, is begun."""

    def late(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline


def make_plan(job: Job, engine: Engine | None, recipe: Recipe, *, retry_failed: bool, warn: Callable[[str], None]) -> Plan:
    """What a run would do now. Reads the source's names and the catalog, writes nothing.

    Raises SourceError if the source cannot be read, or misses more known videos than source.missing_limit allows.
    """
    listed = list_source(job.source, now=time.time(), warn=warn)
    if engine is None:
        return diff(((item, None) for item in listed), (), retry_failed=retry_failed)
    known = KnownVideos(engine, job.source.uri, recipe.digest)
    plan = diff(known.beside(listed), known.missing(), retry_failed=retry_failed)
    check_missing(plan, known.count, job.source.missing_limit)
    return plan


def run(
    job: Job, make_executor: Callable[[], Executor], reporter: Reporter, options: Options, *, stopped: Callable[[], bool]
) -> str:
    """Index what is new. Gives the outcome: complete, partial or stopped. Raises StopRun if it cannot go on.

    An executor is made, and nothing heavy imported or started, only if there is something to do.

    `stopped` is asked all the time; once it is true, what is finished is committed and the rest left for the next run.
    """
    recipe = make_recipe(job)
    tally = Tally(recipe=recipe.digest)
    executor: Executor | None = None
    with ExitStack() as at_the_end:
        engine = open_catalog(job.output.catalog, create=True)
        at_the_end.callback(engine.dispose)
        lease = at_the_end.enter_context(acquire(engine, job.name))
        _warn_of_lost_catalog(job, engine, reporter)
        with _timed(tally, "list"):
            plan = make_plan(job, engine, recipe, retry_failed=options.retry_failed, warn=reporter.warn)
        work = plan.work[: options.limit]
        _count(tally, plan, work)
        labels: Sequence[str] | None = _stored_labels(engine, recipe)
        if work or (plan.news and labels is None):
            reporter.note(loading(job.model.name, here=job.ray.address is None))
            executor = make_executor()
            at_the_end.callback(executor.close)
            labels = executor.start(lambda workers: plan_units(work, workers=workers))
        if labels is None:
            reporter.started(tally)  # nothing was ever indexed, and nothing is to be: the catalog has nothing to say
            outcome = _outcome(tally)
        else:
            run_ref = start_run(engine, lease=lease, recipe=recipe, labels=labels)
            tally.run_id = run_ref.run_id
            reporter.started(tally)
            outcome = _Work(job, engine, run_ref, recipe, executor, reporter, tally).do(plan, work, stopped, options.late)
        reporter.finished(tally, outcome)
        return outcome


class _Work:
    """One run that has something to say to the catalog."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        run_ref: RunRef,
        recipe: Recipe,
        executor: Executor | None,
        reporter: Reporter,
        tally: Tally,
    ) -> None:
        self._job = job
        self._engine = engine
        self._run = run_ref
        self._recipe = recipe
        self._executor = executor
        self._reporter = reporter
        self._tally = tally
        self._source = Presence(job.source.uri)
        self._storage = open_storage(job.output.uri)
        self._staging = Staging(self._storage, recipe, run_ref.run_id)
        self._parts = 0
        self._finished: list[Outcome] = []
        self._rows = 0
        self._oldest = 0.0
        self._last_success = lookup.last_success(engine, job.name)
        self._next_figures = 0.0

    def do(self, plan: Plan, work: Sequence[Video], stopped: Callable[[], bool], late: Callable[[], bool]) -> str:
        outcome = "failed"
        try:
            self._note_listing(plan)
            self._claim(work)
            if work and self._executor is not None:
                self._process(self._executor, stopped, late)
            outcome = _outcome(self._tally)
            return outcome
        finally:
            # Also when the run cannot go on: what it did so far stays true, and `status` says how it ended.
            finish_run(self._engine, self._run, outcome, self._tally.as_event(outcome))
            if outcome in GOOD:
                self._last_success = time.time()
            self._publish(outcome)

    def _note_listing(self, plan: Plan) -> None:
        """Tell the catalog what the listing alone has found out."""
        with _timed(self._tally, "commit"):
            for uris in _chunks(plan.gone, GONE_VIDEOS):
                mark_gone(self._engine, self._run, uris)
            adopt(self._engine, self._run, self._job.source.uri, plan.adopted)
            for news in _chunks(plan.news, CLAIM_VIDEOS):
                claim(self._engine, self._run, self._job.source.uri, [item.video for item in news])
                commit(self._engine, self._run, None, news)
        for item in plan.listing_failures:
            self._reporter.outcome(item)

    def _claim(self, work: Sequence[Video]) -> None:
        with _timed(self._tally, "commit"):
            for videos in _chunks(work, CLAIM_VIDEOS):
                claim(self._engine, self._run, self._job.source.uri, videos)

    def _process(self, executor: Executor, stopped: Callable[[], bool], late: Callable[[], bool]) -> None:
        try:
            for outcome in executor.process(self._staging, stopped=stopped, late=late):
                if outcome is not None:
                    self._take(outcome)
                if self._finished and (self._rows >= COMMIT_ROWS or time.monotonic() - self._oldest >= COMMIT_SECONDS):
                    self._commit()
                self._read_meter(executor.meter)
                self._reporter.progress(self._tally)
                if time.monotonic() >= self._next_figures:
                    self._publish("running")
            self._reporter.note(executor.describe())
            self._read_meter(executor.meter)
        except Exception:  # a bug, too: its reason goes on unchanged, and what was finished before stays done
            self._commit()
            raise
        self._commit()

    def _publish(self, state: str) -> None:
        if self._executor is not None:
            self._executor.publish(figures(self._tally, state, last_success=self._last_success))
        self._next_figures = time.monotonic() + FIGURES_SECONDS

    def _read_meter(self, meter: WorkMeter) -> None:
        self._tally.stages.update(meter.stage_seconds)
        self._tally.queue_bytes = meter.queue_bytes
        self._tally.underway_bytes, self._tally.underway_seconds = meter.underway_bytes, meter.underway_seconds
        self._tally.decoded_seconds = meter.video_seconds
        if meter.clips and not self._tally.startup_seconds:
            self._tally.startup_seconds = self._tally.wall_seconds
        self._tally.fetched_bytes = meter.fetched_bytes
        self._tally.fetched_of_bytes = meter.fetched_of_bytes
        self._tally.fetch_wait_seconds = meter.fetch_wait_seconds

    def _take(self, outcome: Outcome) -> None:
        self._source.confirm(outcome)  # if nothing can be had any more, no video is to blame
        if not self._finished:
            self._oldest = time.monotonic()
        self._finished.append(outcome)
        self._tally.finished += 1
        self._tally.finished_bytes += outcome.video.size_bytes
        if isinstance(outcome, IndexedVideo):
            self._rows += len(outcome.segments)
            self._tally.finished_seconds += outcome.info.duration_seconds
        self._tally.failing += isinstance(outcome, Failure)

    def _commit(self) -> None:
        """Make everything that is finished visible: the part first, then the one transaction that names it."""
        outcomes, self._finished, self._rows = self._finished, [], 0
        indexed = [outcome for outcome in outcomes if isinstance(outcome, IndexedVideo)]
        part = None
        if indexed:
            self._parts += 1
            with _timed(self._tally, "write"):
                run = self._run
                part = write_part(
                    indexed,
                    self._storage,
                    recipe=self._recipe,
                    run_id=run.run_id,
                    sequence=self._parts,
                    labels=run.labels,
                )
        with _timed(self._tally, "commit"):
            report = commit(self._engine, self._run, part, outcomes) if outcomes else None
        self._tally.failing = 0
        dropped = set(report.dropped) if report else set()
        for outcome in outcomes:
            if outcome.video.uri not in dropped:
                self._tally.add(outcome)
                self._reporter.outcome(outcome)
        for outcome in outcomes:
            if problem := self._staging.sweep(outcome.video):
                self._reporter.warn(problem)


def _warn_of_lost_catalog(job: Job, engine: Engine, reporter: Reporter) -> None:
    if not holds_results(engine) and next(open_storage(job.output.uri).list_files(FOLDER), None):
        reporter.warn(
            f"the catalog is empty, and {job.output.uri} holds parts. If it was lost, stop this run: `indexer rebuild JOB`"
            " makes it anew from them, and nothing has to be indexed again"
        )


def _count(tally: Tally, plan: Plan, work: Sequence[Video]) -> None:
    tally.found = plan.found
    tally.unchanged = plan.unchanged
    tally.gone = len(plan.gone)
    tally.to_do = len(work)
    tally.to_do_bytes = sum(video.size_bytes for video in work)
    tally.failed = len(plan.failed) + len(plan.listing_failures)
    tally.failed_before = len(plan.failed)
    tally.failure_codes.update(failure.code for failure in plan.listing_failures)
    tally.unseen = plan.unseen
    tally.skipped = plan.skipped
    tally.skip_reasons.update(skip.reason for skip in plan.listing_skips)


def _outcome(tally: Tally) -> str:
    if tally.left:
        return "stopped"
    return "partial" if tally.failed else "complete"


def _stored_labels(engine: Engine, recipe: Recipe) -> list[str] | None:
    """The labels of a recipe that was used before, in the model's order; None for a new one."""
    recipe_id = lookup.find_recipe(engine, recipe.digest)
    return None if recipe_id is None else [name for _, name in sorted(lookup.label_names(engine, recipe_id).items())]


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))


@contextmanager
def _timed(tally: Tally, stage: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        tally.stages[stage] += time.perf_counter() - began
