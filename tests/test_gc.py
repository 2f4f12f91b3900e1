"""`indexer gc`: what is of no use goes when its time has come, small parts become one, and no death on the way does harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from indexer.catalog.commit import claim, commit, start_run
from indexer.catalog.lease import acquire
from indexer.catalog.parts import PartRow
from indexer.config import load_job
from indexer.errors import ConfigError, LeaseLost, RunHeld
from indexer.records import IndexedRange
from indexer.upkeep.compact import MOST_ROWS, SMALL_ROWS, Compacted, compact, worth_it
from indexer.upkeep.sweep import Swept, sweep
from indexer.upkeep_view import show_gc
from indexer.write.parquet import write_part
from indexer.write.staging import Staging
from tests.catalogs import LABELS, RECIPES, indexed, part_states
from tests.dump import assert_sound, live_rows_of_parts
from tests.fuses import Burning, Fuse, deaths
from tests.indexes import CopiesOf, Index, three_runs
from tests.s3 import S3Place
from tests.synthetic import TextArchive


@pytest.fixture
def index(catalog_url: str, tmp_path: Path) -> Iterator[Index]:
    index = Index(catalog_url, str(tmp_path / "output"))
    yield index
    assert_sound(index.engine)
    assert index.codes() == []
    index.close()


def swept(index: Index, grace_seconds: float = 0.0, *, force: bool = False) -> list[tuple[str, str]]:
    """(kind, name) of what was deleted."""
    with index.lease() as lease:
        done = sweep(index.engine, lease.token, index.storage, grace_seconds=grace_seconds, dry_run=False, force=force)
    assert not {one.name for one in done} & set(index.files())
    return [(one.kind, one.name) for one in done]


def compacted(index: Index) -> Compacted:
    with index.lease() as lease:
        return compact(index.engine, lease.token, index.storage, dry_run=False, progress=lambda *_: None)


def test_retired_parts_go_after_the_grace(index: Index) -> None:
    first, second, _ = three_runs(index)
    index.run(indexed("a", "2", ("yoga", 0.1)), indexed("b", "3", ("yoga", 0.1)))
    assert part_states(index.engine) == ["retired", "live", "live", "live"]
    before = index.rows()
    assert swept(index, 24 * 3600) == []
    assert swept(index) == [("retired", first)]
    assert part_states(index.engine) == ["live", "live", "live"]
    assert second in index.files()
    assert index.rows() == before


def test_a_part_that_is_named_is_not_deleted_whatever_its_state_says(index: Index) -> None:
    first, _, _ = three_runs(index)
    index.sql("UPDATE part SET state = 'retired', retired_at = 1 WHERE id = 1")
    assert swept(index) == []
    assert first in index.files()
    index.sql("UPDATE part SET state = 'live', retired_at = NULL WHERE id = 1")


def test_a_dry_run_says_the_same_and_changes_nothing(index: Index) -> None:
    first, _, _ = three_runs(index)
    index.run(gone=["a", "b"])
    files = index.files()
    found = sweep(index.engine, 0, index.storage, grace_seconds=0, dry_run=True, force=False)
    assert found == [Swept("retired", first, index.path(first).stat().st_size)]
    assert (index.files(), part_states(index.engine)) == (files, ["retired", "live", "live"])


def test_what_killed_programs_left_goes_after_the_grace(index: Index) -> None:
    three_runs(index)
    orphan = index.orphan(indexed("z", "1", ("yoga", 0.5)))
    half, foreign = index.path("parts/.part-000001-0001-aa.parquet.tmp"), index.path("parts/notes.txt")
    half.write_bytes(b"PAR1")
    foreign.write_text("of somebody else")
    assert swept(index, 3600) == []
    for path in (index.path(orphan), half, foreign):
        os.utime(path, (time.time() - 4000,) * 2)
    assert swept(index, 3600) == [("orphan", orphan), ("temporary", "parts/.part-000001-0001-aa.parquet.tmp")]
    assert foreign.exists()


def test_staged_ranges_stay_as_long_as_a_run_may_go_on_with_them(index: Index) -> None:
    with index.lease() as lease:
        run = start_run(index.engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
        done, begun = indexed("done", "1", ("yoga", 0.5)), indexed("begun", "1", ("yoga", 0.5))
        claim(index.engine, run, "/archive", [done.video, begun.video])
        for video in (done, begun, indexed("begun", "0", ("yoga", 0.5))):
            Staging(index.storage, RECIPES["A"], run.run_id).save(IndexedRange((0, 1), video))
    index.run(done)
    index.path("staging/11112222333344445555-0-1-aaaabbbb.parquet").write_text("damaged")
    assert Counter(kind for kind, _ in swept(index)) == {"staged": 3}
    (left,) = [name for name in index.files() if name.startswith("staging/")]
    with index.storage.open(left) as file:
        assert pq.read_table(file).column("fingerprint").to_pylist() == ["1"]
    assert [one.segments for one in Staging(index.storage, RECIPES["A"], 2).load(begun.video)] == [(0, 1)]


def test_the_parts_of_another_catalog_are_not_taken_for_leftovers(index: Index) -> None:
    three_runs(index)
    orphans = [index.orphan(indexed(f"z{n}", "1", ("yoga", 0.5))) for n in range(4)]
    with pytest.raises(ConfigError, match="holds 4 parts that the catalog does not know, and 3 that it does"):
        swept(index)
    assert set(orphans) <= set(index.files())
    assert swept(index, force=True) == [("orphan", name) for name in sorted(orphans)]


def test_a_short_grace_is_refused_while_another_job_is_at_work(index: Index) -> None:
    three_runs(index)
    with acquire(index.engine, "another"):
        with pytest.raises(RunHeld, match="Another job is at work"):
            swept(index)
        assert swept(index, 3600) == []


def test_who_was_frozen_cannot_commit_what_was_swept(index: Index) -> None:
    three_runs(index)
    before = index.rows()
    frozen = acquire(index.engine, "another")
    run = start_run(index.engine, lease=frozen, recipe=RECIPES["A"], labels=LABELS)
    late = indexed("late", "1", ("yoga", 0.5))
    claim(index.engine, run, "/archive", [late.video])
    part = write_part([late], index.storage, recipe=RECIPES["A"], run_id=run.run_id, sequence=1, labels=LABELS)
    index.sql("UPDATE lease SET expires_at = 0")
    assert swept(index) == [("orphan", part.name)]
    with pytest.raises(LeaseLost):
        commit(index.engine, run, part, [late])
    assert index.rows() == before


def test_a_host_whose_clock_is_ahead_deletes_nothing_that_is_new(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    three_runs(index)
    orphan = index.orphan(indexed("z", "1", ("yoga", 0.5)))
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + 48 * 3600)
        assert swept(index, 24 * 3600) == []
    assert swept(index) == [("orphan", orphan)]
    assert not [name for name in index.files() if "clock" in name]


# Compaction


def nights(index: Index, n: int = 9) -> list[str]:
    """One part a night, each with one new video, and a changed one that is always the same."""
    return [
        index.run(indexed(f"night{n}", "1", ("yoga", 0.5), ("archery", n / 10)), indexed("b", str(n), ("bowling", 0.1)))[0]
        for n in range(n)
    ]


def test_many_small_parts_become_one_with_the_same_rows(index: Index) -> None:
    nights(index)
    index.run(indexed("night0", "1", ("yoga", 0.7)), recipe="B")
    before, tables = index.dump(), embeddings(index)
    assert compacted(index) == Compacted(parts=9, into=1, rows=19)
    assert (index.dump(), embeddings(index)) == (before, tables)
    assert part_states(index.engine) == ["retired"] * 9 + ["live"] * 2
    assert live_rows_of_parts(index.engine, index.path("")) == index.rows()
    assert index.codes() == []
    name = index.ask("SELECT name FROM part WHERE id = (SELECT max(id) FROM part)")[0][0]
    assert name.startswith("parts/part-000009-rewritten-")
    assert pq.read_table(index.path(name)).column("uri").to_pylist()[:3] == [
        "/archive/b",
        "/archive/night0",
        "/archive/night0",
    ]
    assert compacted(index) == Compacted(0, 0, 0)
    assert len(swept(index)) == 9


def embeddings(index: Index) -> dict[tuple[int, str, int], list[float]]:
    """Of the live rows, by recipe, uri and start_ms."""
    statement = (
        "SELECT name, result.recipe_id, uri FROM result JOIN part ON part.id = part_id JOIN video ON video.id = video_id"
    )
    return {
        (recipe_id, uri, row["start_ms"]): row["embedding"]
        for name, recipe_id, uri in index.ask(statement)
        for row in pq.read_table(index.path(name)).to_pylist()
        if row["uri"] == uri
    }


def test_a_part_whose_rows_are_mostly_dead_is_written_anew(index: Index) -> None:
    (name,) = index.run(*[indexed(f"v{n}", "1", ("yoga", 0.5)) for n in range(5)])
    index.run(gone=["v0", "v2"])
    assert compacted(index) == Compacted(0, 0, 0)
    index.run(gone=["v3"])
    assert compacted(index) == Compacted(parts=1, into=1, rows=2)
    assert swept(index) == [("retired", name)]
    (left,) = index.files()
    assert pq.read_table(index.path(left)).column("uri").to_pylist() == ["/archive/v1", "/archive/v4"]


def test_what_another_job_commits_meanwhile_stays(index: Index) -> None:
    nights(index)

    class Meanwhile(Fuse):
        def step(self) -> None:
            """The new file is durable after the second one, and its transaction still to come."""
            self.taken += 1
            if self.taken == 2:
                index.run(indexed("night3", "2", ("bowling", 0.9)), gone=["night4"])

    with acquire(index.engine, "another") as lease:
        storage = Burning(index.storage, Meanwhile())
        compact(index.engine, lease.token, storage, dry_run=False, progress=lambda *_: None)
    assert {row[0] for row in index.rows()} == {
        f"/archive/{name}" for name in ("b", *(f"night{n}" for n in range(9) if n != 4))
    }
    assert ("/archive/night3", "aa" * 32, 0, 10_000, "bowling", 9000) in index.rows()
    assert part_states(index.engine) == ["retired"] * 9 + ["live"] * 2


def test_a_damaged_part_is_not_signed_anew_and_keeps_no_other_from_it(index: Index) -> None:
    names = nights(index)
    damaged, missing = names[3], names[5]
    path, gone = index.path(damaged), index.path(missing)
    whole, other = path.read_bytes(), gone.read_bytes()
    vector = np.array([0.5, 0, 1, 0], np.float16).tobytes()
    assert whole.count(vector) == 1
    path.write_bytes(whole.replace(vector, np.array([0.5, 0, 1, 1], np.float16).tobytes()))
    gone.unlink()
    before = index.rows()
    done = compacted(index)
    assert (done.parts, done.into, done.rows) == (7, 1, 15)
    assert [sentence.split(": ")[0].rpartition("/")[2] for sentence in done.unreadable] == [
        f"{damaged.rpartition('/')[2]} is damaged",
        missing.rpartition("/")[2],
    ]
    assert "its bytes are not those that were written" in done.unreadable[0]
    assert index.rows() == before
    assert compacted(index) == Compacted(0, 0, 0)  # three small parts are few
    path.write_bytes(whole)
    gone.write_bytes(other)


def test_what_is_left_beside_a_damaged_part_is_not_written_anew_every_time(index: Index) -> None:
    (name,) = index.run(*[indexed(f"v{n}", "1", ("yoga", 0.5)) for n in range(5)])
    index.run(indexed("small", "1", ("yoga", 0.5)), gone=["v0", "v2", "v3"])
    whole = index.path(name).read_bytes()
    index.path(name).write_bytes(b"damaged")
    done = compacted(index)
    assert (done.parts, done.into, done.rows, len(done.unreadable)) == (0, 0, 0, 1)
    index.path(name).write_bytes(whole)
    assert compacted(index) == Compacted(parts=2, into=1, rows=3)


def test_the_command_names_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        archive.put(name, (("yoga", 0.5),))
    job = archive.job_path("texts")
    archive.run(load_job(job))
    for name in ("a.mp4", "b.mp4"):
        archive.remove(name)
    archive.run(load_job(job))
    (path,) = (tmp_path / "output" / "parts").iterdir()
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    gc = partial(show_gc, job, grace="24h", compacting=True, dry_run=False, force=False)
    assert gc(as_json=False) == 4
    first, last = capsys.readouterr().err.splitlines()
    assert f"{path} is damaged: its bytes are not those that were written. `indexer check JOB --deep --repair`" in first
    assert last == "nothing to do"
    assert gc(as_json=True) == 4
    assert len(json.loads(capsys.readouterr().out)["compacted"]["unreadable"]) == 1
    path.write_bytes(whole)
    assert gc(as_json=False) == 0
    assert capsys.readouterr().out == "compacted: 1 parts into 1, 1 rows\n"


def part(part_id: int, rows: int, recipe_id: int = 1) -> PartRow:
    return PartRow(part_id, f"p{part_id}", 1, recipe_id, rows, 0, "", "live", None)


def test_what_is_worth_compacting() -> None:
    def groups(*parts: PartRow, **alive: int) -> list[list[int]]:
        rows = Counter({one.part_id: alive.get(one.name, one.rows) for one in parts})
        return [[one.part_id for one in group] for group in worth_it(parts, rows)]

    eight = [part(n, 10) for n in range(1, 9)]
    assert groups(*eight) == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert groups(*eight[:7]) == []
    assert groups(*eight[:4], *[part(n, 10, recipe_id=2) for n in range(5, 9)]) == []
    assert groups(part(1, SMALL_ROWS), part(2, 10)) == []
    assert groups(part(1, MOST_ROWS), p1=MOST_ROWS // 2 - 1) == [[1]]
    assert groups(part(1, MOST_ROWS), p1=MOST_ROWS // 2) == []
    full = [part(n, MOST_ROWS) for n in range(1, 6)]
    assert groups(*full, **{f"p{n}": MOST_ROWS // 2 - 1 for n in range(1, 6)}) == [[1, 2], [3, 4], [5]]
    assert groups() == []
    assert groups(part(1, 10), p1=0) == [[1]]  # as `check` finds a part that no result names
    medium = [part(n, MOST_ROWS // 8 + 1) for n in range(1, 10)]
    assert groups(*medium) == [[1, 2, 3, 4, 5, 6, 7], [8, 9]]
    assert groups(*medium[:8]) == [[1, 2, 3, 4, 5, 6, 7]]
    assert groups(*medium[:7]) == []


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(SMALL_ROWS // 2, SMALL_ROWS), st.integers(1, MOST_ROWS)),
            st.one_of(st.just(1.0), st.just(1.0), st.floats(0.001, 1)),
            st.integers(1, 2),
        ).map(lambda drawn: (drawn[0], max(1, round(drawn[0] * drawn[1])), drawn[2])),
        min_size=12,
        max_size=40,
    )
)
def test_after_a_compaction_few_parts_are_small_and_none_is_mostly_dead(drawn: list[tuple[int, int, int]]) -> None:
    parts = [part(n, rows, recipe_id) for n, (rows, _, recipe_id) in enumerate(drawn)]
    alive = Counter({n: live for n, (_, live, _) in enumerate(drawn)})
    for group in worth_it(parts, alive):
        assert len({one.recipe_id for one in group}) == 1
        rows = sum(alive[one.part_id] for one in group)
        assert rows <= MOST_ROWS
        parts = [*(one for one in parts if one not in group), part(len(alive), rows, group[0].recipe_id)]
        alive[len(alive)] = rows
    small = Counter(one.recipe_id for one in parts if alive[one.part_id] < SMALL_ROWS)
    assert max(small.values(), default=0) < 8
    assert worth_it(parts, alive) == []


# Killed at every step


def swept_tomorrow(index: Index) -> None:
    nights(index)
    index.run(indexed("night2", "2", ("bowling", 0.2)), gone=["night3"])
    index.orphan(indexed("night0", "1", ("yoga", 0.5)))


def test_death_at_any_step_of_gc_costs_nothing(copies_of: CopiesOf) -> None:
    copy = copies_of(swept_tomorrow)
    untouched = copy()
    expected = untouched.dump()
    untouched.close()

    def collect(index: Index, fuse: Fuse) -> None:
        storage = Burning(index.storage, fuse)
        with fuse.in_catalog(index.engine):
            lease = index.lease()
            sweep(index.engine, lease.token, storage, grace_seconds=0, dry_run=False, force=False)
            compact(index.engine, lease.token, storage, dry_run=False, progress=lambda *_: None)
            sweep(index.engine, lease.token, storage, grace_seconds=0, dry_run=False, force=False)
            lease.release()

    def attempt(fuse: Fuse) -> None:
        index = copy()
        try:
            collect(index, fuse)
        finally:
            index.free_lease()
            assert index.dump() == expected
            assert index.codes() == []
            collect(index, Fuse())
            assert index.dump() == expected
            assert index.codes() == []
            assert index.ask("SELECT name FROM part") == [(name,) for name in index.files() if name.startswith("parts/")]
            assert part_states(index.engine) == ["live"]
            index.close()

    assert len(list(deaths(attempt))) > 20


MOMENTS = ("before the rename", "after the rename", "inside the transaction")


def one_compaction(url: str, root: str, kill: str) -> None:
    """That never ends."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    index = Index(url, root)
    if kill == "before the rename":
        sys.addaudithook(lambda name, _: die() if name == "os.rename" else None)
    if kill == "after the rename":
        event.listen(index.engine, "begin", lambda _: die() if len(index.files()) > 10 else None)
    if kill == "inside the transaction":
        event.listen(index.engine, "before_cursor_execute", lambda *args: die() if args[2].startswith("UPDATE part") else None)
    compacted(index)
    die()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_compaction_leaves_the_old_parts_or_the_new_one(index: Index, moment: str) -> None:
    nights(index)
    before = index.dump()
    code = f"import tests.test_gc as t; t.one_compaction({index.url!r}, {index.uri!r}, {moment!r})"
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert killed.returncode == -signal.SIGKILL
    assert index.dump() == before
    assert index.codes() == []
    index.free_lease()
    compacted(index)
    swept(index)
    assert index.dump() == before
    assert len([name for name in index.files() if name.startswith("parts/")]) == 1


def test_an_index_in_a_bucket_is_swept_and_compacted_too(s3: S3Place, tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    nights(index)
    before = index.dump()
    assert compacted(index).parts == 9
    assert len(swept(index)) == 9
    assert (index.dump(), index.codes(), len(index.files())) == (before, [], 1)
    index.close()
