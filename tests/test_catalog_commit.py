"""The one transaction, what the catalog remembers, any history of runs, and what a kill at the worst moment leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, event

from indexer.catalog.commit import CommitReport, RunRef, adopt, claim, commit, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading, writing
from indexer.catalog.lease import acquire
from indexer.catalog.lookup import (
    FailedVideo,
    Totals,
    failures,
    find_recipe,
    label_names,
    runs,
    totals,
)
from indexer.errors import ConfigError
from indexer.records import IndexedVideo, Outcome, Part, Skipped
from indexer.storage import open_storage
from indexer.write.parquet import write_part
from tests.catalogs import (
    LABELS,
    RECIPES,
    Rows,
    a_part,
    failed,
    index,
    indexed,
    part_states,
    shown,
    start,
    stats,
    video,
)
from tests.dump import assert_sound, canonical_dump, live_rows, live_rows_of_parts

Answer = TypeVar("Answer")

# The transaction


def test_a_commit_makes_rows_counts_and_states(engine: Engine) -> None:
    report = index(
        engine,
        indexed("a.mp4", "1", ("yoga", 0.91234), ("archery", 1.0)),
        failed("b.mp4"),
        Skipped(video("c.jpg"), "still_image"),
    )
    assert report == CommitReport(committed=("/archive/a.mp4", "/archive/b.mp4", "/archive/c.jpg"), dropped=())
    common = {"digest": "aa" * 32, "fingerprint": "1"}
    nothing: dict[str, Any] = {"indexed_fingerprint": None, "segments": 0, "clips": 0, "warnings": [], "rows": []}
    assert canonical_dump(engine) == [
        common
        | {
            "uri": "/archive/a.mp4",
            "state": "indexed",
            "code": None,
            "indexed_fingerprint": "1",
            "segments": 2,
            "clips": 4,
            "warnings": ["W_X"],
            "rows": [(0, 10_000, "yoga", 9123), (10_000, 20_000, "archery", 10_000)],
        },
        common | nothing | {"uri": "/archive/b.mp4", "state": "failed", "code": "E_TRUNCATED"},
        common | nothing | {"uri": "/archive/c.jpg", "state": "skipped", "code": "still_image"},
    ]
    assert stats(engine) == {("A", "yoga", 9): 1, ("A", "archery", 9): 1}


def test_a_claimed_video_stays_searchable_until_it_is_replaced(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9), ("yoga", 0.5)))
    run = start(engine)
    claim(engine, run, "/archive", [video("a", "2")])
    assert shown(engine) == {("a", "A"): ("pending", (("yoga", 0.9), ("yoga", 0.5)))}
    new = indexed("a", "2", ("bowling", 0.9))
    commit(engine, run, a_part([new]), [new])
    assert shown(engine) == {("a", "A"): ("indexed", (("bowling", 0.9),))}
    assert stats(engine) == {("A", "bowling", 9): 1}
    assert part_states(engine) == ["retired", "live"]


def test_a_part_lives_as_long_as_one_of_its_videos(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)), indexed("b", "1", ("yoga", 0.9)))
    index(engine, indexed("a", "2", ("yoga", 0.8)))
    assert part_states(engine) == ["live", "live"]
    index(engine, failed("b", "2"))
    assert part_states(engine) == ["retired", "live"]


def test_a_changed_video_that_fails_loses_its_old_rows(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    index(engine, failed("a", "2"))
    assert shown(engine) == {("a", "A"): ("failed", ())}
    assert stats(engine) == {}
    with reading(engine) as connection:
        row = connection.exec_driver_sql("SELECT fingerprint, duration_ms, width, height, codec, average_fps FROM video").one()
    assert tuple(row) == ("2", None, None, None, None, None)


def test_two_recipes_live_side_by_side(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    index(engine, indexed("a", "1", ("archery", 0.2)), run=start(engine, "B"))
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.9),)), ("a", "B"): ("indexed", (("archery", 0.2),))}
    assert stats(engine) == {("A", "yoga", 9): 1, ("B", "archery", 2): 1}


def test_new_bytes_under_one_recipe_end_the_old_rows_of_another(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    index(engine, indexed("a", "2", ("archery", 0.2)), run=start(engine, "B"))
    assert shown(engine) == {("a", "A"): ("pending", ()), ("a", "B"): ("indexed", (("archery", 0.2),))}
    assert part_states(engine) == ["retired", "live"]


def test_a_claim_of_new_bytes_survives_their_commit_under_another_recipe(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    slow = start(engine)
    claim(engine, slow, "/archive", [video("a", "2")])
    index(engine, indexed("a", "2", ("archery", 0.2)), run=start(engine, "B"))
    new = indexed("a", "2", ("yoga", 0.3))
    assert commit(engine, slow, a_part([new]), [new]).dropped == ()
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.3),)), ("a", "B"): ("indexed", (("archery", 0.2),))}


def test_a_claim_of_other_bytes_does_not(engine: Engine) -> None:
    slow = start(engine)
    claim(engine, slow, "/archive", [video("a", "1")])
    index(engine, indexed("a", "2", ("archery", 0.2)), run=start(engine, "B"))
    old = indexed("a", "1", ("yoga", 0.9))
    assert commit(engine, slow, a_part([old]), [old]).dropped == ("/archive/a",)
    assert shown(engine) == {("a", "A"): ("pending", ()), ("a", "B"): ("indexed", (("archery", 0.2),))}
    assert part_states(engine) == ["live", "retired"]


def test_a_run_that_lost_its_claim_changes_nothing(engine: Engine) -> None:
    zombie = start(engine)
    claim(engine, zombie, "/archive", [video("a"), video("b")])
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    late: list[Outcome] = [indexed("a", "1", ("archery", 0.1)), indexed("b", "1", ("archery", 0.1)), failed("never claimed")]
    report = commit(engine, zombie, a_part(late), late)
    assert report == CommitReport(committed=("/archive/b",), dropped=("/archive/a", "/archive/never claimed"))
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.9),)), ("b", "A"): ("indexed", (("archery", 0.1),))}


def test_a_gone_video_leaves_the_index_under_every_recipe(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.9)), indexed("b", "1", ("yoga", 0.9)))
    index(engine, indexed("a", "1", ("archery", 0.2)), run=start(engine, "B"))
    mark_gone(engine, start(engine), ["/archive/a", "/archive/unheard of"])
    assert shown(engine) == {("a", "A"): ("gone", ()), ("a", "B"): ("gone", ()), ("b", "A"): ("indexed", (("yoga", 0.9),))}
    assert stats(engine) == {("A", "yoga", 9): 1}
    assert part_states(engine) == ["live", "retired"]
    index(engine, indexed("a", "1", ("yoga", 0.4)))
    assert shown(engine)["a", "A"] == ("indexed", (("yoga", 0.4),))


def test_a_video_that_a_later_run_saw_is_not_gone(engine: Engine) -> None:
    zombie = start(engine)
    index(engine, indexed("a", "1", ("yoga", 0.9)))
    mark_gone(engine, zombie, ["/archive/a"])
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.9),))}


def test_a_gone_video_cannot_come_back_by_a_late_commit(engine: Engine) -> None:
    run = start(engine)
    claim(engine, run, "/archive", [video("a")])
    mark_gone(engine, start(engine, "B"), ["/archive/a"])
    late = indexed("a", "1", ("yoga", 0.9))
    assert commit(engine, run, a_part([late]), [late]).dropped == ("/archive/a",)
    assert shown(engine) == {("a", "A"): ("gone", ())}


def test_a_claim_that_nothing_came_of_is_no_attempt(engine: Engine) -> None:
    for _ in range(5):
        claim(engine, start(engine), "/archive", [video("a")])
    index(engine, failed("a"))
    assert [row.attempts for row in failures(engine, 1)] == [1]
    claim(engine, start(engine), "/archive", [video("a")])
    index(engine, failed("a"))
    assert [row.attempts for row in failures(engine, 1)] == [2]


def test_attempts_count_tries_at_the_same_bytes(engine: Engine) -> None:
    for fingerprint, attempts in (("1", 1), ("1", 2), ("1", 3), ("2", 1), ("2", 2)):
        index(engine, failed("a", fingerprint))
        assert [row.attempts for row in failures(engine, 1)] == [attempts]


def test_a_message_may_hold_anything(engine: Engine) -> None:
    index(engine, failed("a", message="bad name \udcff and \0"))
    assert failures(engine, 1) == [FailedVideo("/archive/a", "E_TRUNCATED", "bad name \\udcff and \\0", 1)]


def test_more_videos_than_one_query_takes(engine: Engine) -> None:
    outcomes = [indexed(f"{i:04}", "1", ("yoga", 0.5)) for i in range(1_234)]
    assert len(index(engine, *outcomes).committed) == 1_234
    index(engine, *[indexed(f"{i:04}", "2", ("yoga", 0.7)) for i in range(1_234)])
    assert stats(engine) == {("A", "yoga", 7): 1_234}
    mark_gone(engine, start(engine), [outcome.video.uri for outcome in outcomes])
    assert stats(engine) == {}


def test_calls_that_make_no_sense_are_bugs(engine: Engine) -> None:
    run = start(engine)
    one = indexed("a", "1", ("yoga", 0.5))
    mistakes: list[tuple[Part | None, list[Outcome], str]] = [
        (None, [one], "need the part"),
        (a_part([one]), [one, failed("a")], "two outcomes"),
    ]
    for part, outcomes, words in mistakes:
        with pytest.raises(ValueError, match=words):
            commit(engine, run, part, outcomes)
    index(engine, one)
    part = a_part([one])
    commit(engine, run, part, [])
    with pytest.raises(ValueError, match="name of another part"):
        commit(engine, start(engine), part, [])
    with pytest.raises(ValueError, match="other labels"):
        start_run(engine, lease=acquire(engine, "one"), recipe=RECIPES["A"], labels=LABELS[:2])
    with pytest.raises(ConfigError, match="more than once: yoga"):
        start_run(engine, lease=acquire(engine, "another"), recipe=RECIPES["B"], labels=("yoga", "archery", "yoga"))


def test_empty_calls_do_nothing(engine: Engine) -> None:
    run = start(engine)
    claim(engine, run, "/archive", [])
    mark_gone(engine, run, [])
    adopt(engine, run, "/archive", [])
    assert commit(engine, run, None, []) == CommitReport((), ())
    assert canonical_dump(engine) == []


# Looking things up


def test_runs_are_listed_newest_first(engine: Engine) -> None:
    first = start(engine, job="archive")
    finish_run(engine, first, "complete", {"videos": {"found": 3}})
    second = start(engine, "B", job="other")
    newest, oldest = runs(engine, limit=10)
    assert (newest.run_id, newest.recipe_digest, newest.outcome, newest.finished_at) == (second.run_id, "bb" * 32, None, None)
    assert (oldest.run_id, oldest.job, oldest.outcome) == (first.run_id, "archive", "complete")
    assert oldest.report == {"videos": {"found": 3}}
    assert oldest.finished_at is not None
    assert oldest.finished_at >= oldest.started_at
    assert [run.run_id for run in runs(engine, limit=1)] == [second.run_id]
    assert [run.run_id for run in runs(engine, limit=1, job="archive")] == [first.run_id]


def test_a_run_began_before_it_listed_its_source_and_loaded_its_model(engine: Engine) -> None:
    lease = acquire(engine, "archive")
    then = time.time()  # a driver lists and loads between the two
    start_run(engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
    (run,) = runs(engine, limit=1)
    assert then - 60 < run.started_at <= then


def test_a_run_is_running_as_long_as_it_holds_its_lease(engine: Engine) -> None:
    start(engine, job="other")
    with acquire(engine, "archive") as lease:
        run = start_run(engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
        assert [row.running for row in runs(engine, limit=10)] == [True, True]
        finish_run(engine, run, "complete", {})
        assert [row.running for row in runs(engine, limit=10)] == [False, True]
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE lease SET began = 'another process'")
    assert [row.running for row in runs(engine, limit=10)] == [False, False]


def test_videos_are_in_the_order_of_their_code_points(engine: Engine) -> None:
    names = ["B", "a", "a b", "a/c", "ab", "ä", "Ω", "\U0001f600"]
    index(engine, *[failed(name) for name in reversed(names)])
    assert [row.uri for row in failures(engine, 1)] == [f"/archive/{name}" for name in names]


def test_totals_count_what_is_live(engine: Engine) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.5), ("yoga", 0.5)), indexed("b", "1", ("yoga", 0.5)), failed("c"))
    index(engine, failed("gone"), Skipped(video("d"), "no_video"))
    mark_gone(engine, start(engine), ["/archive/gone"])
    claim(engine, start(engine), "/archive", [video("b", "2")])
    assert totals(engine, 1) == Totals(
        videos={"pending": 1, "indexed": 1, "failed": 1, "skipped": 1, "gone": 1},
        video_seconds=30.0,
        segments=3,
        clips=6,
        parts=1,
        part_bytes=30,
    )
    assert json.loads(json.dumps(asdict(totals(engine, 1))))["video_seconds"] == 30.0  # no database's own kind of number


def test_recipes_and_labels_are_found_by_name(engine: Engine) -> None:
    run = start(engine)
    assert find_recipe(engine, "aa" * 32) == run.recipe_id
    assert find_recipe(engine, "bb" * 32) is None
    assert sorted(label_names(engine, run.recipe_id).values()) == ["archery", "bowling", "yoga"]
    assert {name: i for i, name in label_names(engine, run.recipe_id).items()} == run.label_ids
    other = start_run(engine, lease=acquire(engine, "other"), recipe=RECIPES["B"], labels=("yoga", "chess"))
    assert sorted(label_names(engine, other.recipe_id).values()) == ["chess", "yoga"]
    assert not set(other.label_ids.values()) & set(run.label_ids.values())


# Any history, against a model that fits on a page


@dataclass
class Entry:
    fence: int | None
    state: str
    fingerprint: str
    live: tuple[str, Rows] | None = None


@dataclass
class Model:
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def claim(self, run: int, recipe: str, name: str, fingerprint: str) -> None:
        self.gone.discard(name)
        entry = self.entries.setdefault((name, recipe), Entry(run, "pending", fingerprint))
        entry.fence, entry.state, entry.fingerprint = run, "pending", fingerprint

    def commit(self, run: int, recipe: str, name: str, fingerprint: str, state: str, rows: Rows) -> bool:
        entry = self.entries.get((name, recipe))
        if entry is None or entry.fence != run:
            return False
        entry.state, entry.fingerprint = state, fingerprint
        entry.live = (fingerprint, rows) if state == "indexed" else None
        for (other_name, other_recipe), other in self.entries.items():
            if other_name == name and other_recipe != recipe:
                if other.live and other.live[0] != fingerprint:
                    other.live, other.state = None, "pending"
                if other.fingerprint != fingerprint:
                    other.fence = None
        return True

    def mark_gone(self, run: int, name: str) -> None:
        entries = [entry for (other, _), entry in self.entries.items() if other == name]
        if entries and all(entry.fence is None or entry.fence <= run for entry in entries):
            self.gone.add(name)
            for entry in entries:
                entry.fence, entry.state, entry.live = None, "pending", None

    def shown(self) -> dict[tuple[str, str], tuple[str, Rows]]:
        return {
            key: ("gone" if key[0] in self.gone else entry.state, entry.live[1] if entry.live else ())
            for key, entry in self.entries.items()
        }


NAMES, PRINTS = st.sampled_from(["x", "y", "z"]), st.sampled_from(["1", "2"])
ROWS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.99, 1.0])), min_size=1, max_size=3)
OUTCOMES = st.dictionaries(NAMES, st.tuples(PRINTS, st.sampled_from(["indexed", "indexed", "failed", "skipped"]), ROWS))


class AnyHistory(RuleBasedStateMachine):
    """Several runs of two recipes, live ones and zombies, in any order."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.engine = open_catalog(url, create=True)
        self.runs: list[tuple[RunRef, str]] = []
        self.model = Model()

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(recipe=st.sampled_from(["A", "B"]))
    def run_starts(self, recipe: str) -> None:
        self.runs.append((start(self.engine, recipe), recipe))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), claimed=st.dictionaries(NAMES, PRINTS))
    def run_claims(self, data: st.DataObject, claimed: dict[str, str]) -> None:
        run, recipe = data.draw(st.sampled_from(self.runs))
        claim(self.engine, run, "/archive", [video(*pair) for pair in claimed.items()])
        for name, fingerprint in claimed.items():
            self.model.claim(run.run_id, recipe, name, fingerprint)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), drawn=OUTCOMES)
    def run_commits(self, data: st.DataObject, drawn: dict[str, tuple[str, str, list[tuple[str, float]]]]) -> None:
        run, recipe = data.draw(st.sampled_from(self.runs))
        outcomes: list[Outcome] = []
        dropped = []
        for name, (fingerprint, state, rows) in drawn.items():
            outcomes.append(
                indexed(name, fingerprint, *rows)
                if state == "indexed"
                else failed(name, fingerprint)
                if state == "failed"
                else Skipped(video(name, fingerprint), "no_video")
            )
            if not self.model.commit(run.run_id, recipe, name, fingerprint, state, tuple(rows)):
                dropped.append(f"/archive/{name}")
        assert commit(self.engine, run, a_part(outcomes), outcomes).dropped == tuple(dropped)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), names=st.sets(NAMES))
    def videos_go(self, data: st.DataObject, names: set[str]) -> None:
        run, _ = data.draw(st.sampled_from(self.runs))
        mark_gone(self.engine, run, [f"/archive/{name}" for name in names])
        for name in names:
            self.model.mark_gone(run.run_id, name)

    @invariant()
    def catalog_is_the_model(self) -> None:
        assert_sound(self.engine)
        assert shown(self.engine) == self.model.shown()


def test_any_history_ends_as_the_model_says(new_url: Callable[[], str]) -> None:
    quick = settings(max_examples=12, stateful_step_count=16, suppress_health_check=[HealthCheck.too_slow], database=None)
    run_state_machine_as_test(lambda: AnyHistory(new_url()), settings=quick)


# Killed at the worst moments

BEFORE = (indexed("a", "1", ("yoga", 0.9), ("yoga", 0.8)), indexed("b", "1", ("bowling", 0.7)))
AFTER = (indexed("a", "2", ("archery", 0.6)), failed("b", "2"), indexed("c", "1", ("yoga", 0.5), ("archery", 0.4)))
MOMENTS = ("before the rename", "after the rename", "inside the transaction", "after the commit")


def one_run(url: str, root: Path, outcomes: Sequence[Outcome], kill: str = "") -> None:
    """What a run does with the output below `root`, with an optional end."""
    engine = open_catalog(url, create=True)
    with acquire(engine, "archive") as lease:
        run = start_run(engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
        claim(engine, run, "/archive", [outcome.video for outcome in outcomes])
        if kill == "before the rename":
            sys.addaudithook(lambda name, _: _die() if name == "os.rename" else None)
        videos = [outcome for outcome in outcomes if isinstance(outcome, IndexedVideo)]
        part = write_part(videos, open_storage(str(root)), recipe=RECIPES["A"], run_id=run.run_id, sequence=1)
        if kill == "after the rename":
            _die()
        if kill == "inside the transaction":  # the hits are in
            event.listen(engine, "before_cursor_execute", lambda *args: _die() if args[2].startswith("UPDATE video") else None)
        commit(engine, run, part, outcomes)
        if kill == "after the commit":
            _die()
        finish_run(engine, run, "complete", {})
    engine.dispose()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_shows_all_or_nothing_and_the_next_one_repairs(
    tmp_path: Path, new_url: Callable[[], str], moment: str
) -> None:
    undisturbed, disturbed = (new_url(), tmp_path / "undisturbed"), (new_url(), tmp_path / "disturbed")
    one_run(*undisturbed, BEFORE)
    one_run(*disturbed, BEFORE)
    assert dump_of(*undisturbed) == dump_of(*disturbed)
    rows_before = rows_of(*disturbed)
    one_run(*undisturbed, AFTER)
    url, root = disturbed
    code = (
        "from pathlib import Path; import tests.test_catalog_commit as t;"
        f" t.one_run({url!r}, Path({str(root)!r}), t.AFTER, {moment!r})"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert killed.returncode == -signal.SIGKILL

    assert rows_of(*disturbed) == (rows_of(*undisturbed) if moment == "after the commit" else rows_before)
    files = [file.name for file in open_storage(str(root)).list_files("parts/")]
    assert [name.startswith("parts/.") for name in files].count(True) == (moment == "before the rename")
    assert len(files) == 2

    one_run(*disturbed, AFTER)
    assert dump_of(*disturbed) == dump_of(*undisturbed)
    assert rows_of(*disturbed) == rows_of(*undisturbed)


def dump_of(url: str, _: Path) -> list[dict[str, Any]]:
    return _with_catalog(url, canonical_dump)


def rows_of(url: str, root: Path) -> list[tuple[Any, ...]]:
    """The live rows, after checking that SQL and Parquet agree on them and that the database is sound."""

    def rows(engine: Engine) -> list[tuple[Any, ...]]:
        if engine.dialect.name == "sqlite":
            with reading(engine) as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
                assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert_sound(engine)
        assert live_rows_of_parts(engine, root) == live_rows(engine)
        return live_rows(engine)

    return _with_catalog(url, rows)


def _with_catalog(url: str, ask: Callable[[Engine], Answer]) -> Answer:
    engine = open_catalog(url, create=False, read_only=True)
    assert engine is not None
    try:
        return ask(engine)
    finally:
        engine.dispose()
