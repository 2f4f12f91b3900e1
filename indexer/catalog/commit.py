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

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, update

from indexer.catalog.hits import add_hits, count_hits
from indexer.catalog.lease import fenced
from indexer.catalog.parts import add_part, retire_unnamed
from indexer.catalog.results import change, describe_videos, lock_results, store, void_claims, withdraw
from indexer.catalog.runs import RunRef, adopt, claim, finish_run, start_run
from indexer.catalog.tables import video
from indexer.records import IndexedVideo, Outcome, Part

__all__ = ["CommitReport", "RunRef", "adopt", "claim", "commit", "finish_run", "mark_gone", "start_run"]


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
    rows of other recipes that speak of other bytes; those results are pending again. Every outcome was claimed before, and one
    commit names a video once.
    """
    by_uri = {outcome.video.uri: outcome for outcome in outcomes}
    if len(by_uri) != len(outcomes):
        raise ValueError("one commit has two outcomes for one video")
    if part is None and any(isinstance(outcome, IndexedVideo) for outcome in outcomes):
        raise ValueError("indexed videos need the part that holds their rows")
    now = time.time()

    def work(connection: Connection) -> CommitReport:
        known = lock_results(connection, sorted(by_uri))
        mine = {row.uri: row for row in known if row.recipe_id == run.recipe_id and row.fence == run.run_id}
        report = CommitReport(
            committed=tuple(uri for uri in by_uri if uri in mine),
            dropped=tuple(uri for uri in by_uri if uri not in mine),
        )
        part_id = None if part is None else add_part(connection, part, run_id=run.run_id, recipe_id=run.recipe_id, now=now)
        if part is not None and part_id is None:
            return report  # it is committed: only the answer was lost
        others = [row for row in known if row.uri in mine and row.recipe_id != run.recipe_id]
        fingerprints = {uri: by_uri[uri].video.fingerprint for uri in mine}
        outdated = [row for row in others if row.indexed_fingerprint not in (None, fingerprints[row.uri])]
        withdrawn = withdraw(connection, [*mine.values(), *outdated], now)
        void_claims(connection, [row for row in others if row.fingerprint != fingerprints[row.uri]])

        done = [(row.video_id, by_uri[uri]) for uri, row in mine.items()]
        indexed = [(video_id, outcome) for video_id, outcome in done if isinstance(outcome, IndexedVideo)]
        added = add_hits(connection, run.recipe_id, run.label_ids, indexed)
        store(connection, run.recipe_id, part_id, done, now)
        describe_videos(connection, done)
        retire_unnamed(connection, withdrawn.part_ids if part_id is None else withdrawn.part_ids | {part_id}, now)
        count_hits(connection, added=added, removed=withdrawn.hits)
        return report

    return fenced(engine, run.lease_token, work)


def mark_gone(engine: Engine, run: RunRef, uris: Sequence[str]) -> None:
    """Take the rows of videos that left their source out of the index, under every recipe.

    Their claims are void. A video that a later run has claimed is left alone: that run saw it.
    """
    now = time.time()

    def work(connection: Connection) -> None:
        known = lock_results(connection, sorted(set(uris)))
        seen_later = {row.uri for row in known if row.fence is not None and row.fence > run.run_id}
        gone = [row for row in known if row.uri not in seen_later]
        withdrawn = withdraw(connection, gone, now)
        change(connection, gone, {"fence": None, "state": "pending", "code": None, "message": None})
        if gone:
            connection.execute(
                update(video).where(video.c.id == bindparam("gone_id")).values(gone_at=now),
                [{"gone_id": video_id} for video_id in sorted({row.video_id for row in gone})],
            )
        retire_unnamed(connection, withdrawn.part_ids, now)
        count_hits(connection, added=Counter(), removed=withdrawn.hits)

    fenced(engine, run.lease_token, work)
