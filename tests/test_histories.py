"""Any history of an index: videos come, change, fail and go; runs, gc, forget and rebuild end well or are killed at any step.

`make histories N=2000` tries so many, instead of the few of an ordinary test.
"""

from __future__ import annotations

import gc
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from indexer import pipeline
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.recipe import make_recipe
from indexer.search.shards import Shards
from indexer.storage import open_storage
from indexer.upkeep import compact as compaction
from indexer.upkeep.check import check
from indexer.upkeep.compact import compact
from indexer.upkeep.findings import Finding
from indexer.upkeep.forget import forget
from indexer.upkeep.rebuild import rebuild
from indexer.upkeep.repair import repair
from indexer.upkeep.sweep import sweep
from tests.catalogs import LABELS, Rows
from tests.dump import assert_sound, canonical_dump, live_rows, live_rows_of_parts
from tests.fuses import Burning, Dead, Fuse
from tests.synthetic import TextArchive

HISTORIES = int(os.environ.get("INDEXER_HISTORIES", "15"))
STEPS = 12
PHASES = (Phase.generate,)

NAMES = st.sampled_from(["x.mp4", "y.mp4", "z.mp4", "w.mp4"])
ROWS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([0.0, 0.05, 0.5, 0.99, 1.0])), min_size=1, max_size=3).map(
    tuple
)
JOBS = st.sampled_from(["one", "two"])
DEATH = st.one_of(st.none(), st.none(), st.integers(1, 30))
"""The step at which a command is killed; later than its last one, not at all."""

Live = dict[tuple[str, str], tuple[str, Rows]]
"""(uri, recipe digest) -> fingerprint, rows as (label, score)"""


class AnyHistory(RuleBasedStateMachine):
    """Two jobs with a recipe each, on one folder and one index."""

    def __init__(self, new_url: Callable[[], str]) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.archive = TextArchive(Path(self._folder.name), new_url())
        open_catalog(self.archive.catalog, create=True).dispose()
        self.jobs = {"one": self.archive.job("one"), "two": self.archive.job("two", segment="5s")}
        self.storage = open_storage(self.archive.output)
        self.files: dict[str, Rows | None] = {}
        self.written: dict[tuple[str, int], Rows | None] = {}
        """What was ever in the source: uri and the time of its last change -> what is seen in it."""

    def teardown(self) -> None:
        self._folder.cleanup()

    # The world outside

    @rule(name=NAMES, rows=st.one_of(ROWS, ROWS, ROWS, st.none()))
    def video_is_written(self, name: str, rows: Rows | None) -> None:
        uri = self.archive.put(name, rows)
        self.files[name] = rows
        self.written[uri, Path(uri).stat().st_mtime_ns] = rows

    @precondition(lambda self: len(self.files) > 1)  # an empty source is taken for one that is not mounted
    @rule(data=st.data())
    def video_is_removed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        self.archive.remove(name)
        del self.files[name]

    @precondition(lambda self: self.live_parts())
    @rule(data=st.data(), missing=st.booleans())
    def part_is_damaged_and_repaired(self, data: st.DataObject, missing: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.live_parts())))
        path = Path(self.archive.output) / name
        if missing:
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1
            path.write_bytes(content)
        with self.opened() as engine, acquire(engine, "one") as lease:
            found = self.findings(engine)
            assert [finding.subject for finding in found] == [name]
            assert repair(engine, lease.token, found, force=True) == sorted({one.uri for one in found[0].damaged})
            assert self.findings(engine) == []
        path.unlink(missing_ok=True)  # a rebuild could not tell

    # Commands

    @rule(name=JOBS, death=DEATH)
    def run(self, name: str, death: int | None) -> None:
        job = self.jobs[name]

        def command(fuse: Fuse) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pipeline, "open_storage", lambda uri: Burning(open_storage(uri), fuse))
                self.archive.run(job)

        if not self.survives(death, command):
            return
        with self.opened() as engine:
            seen = {
                (Path(result["uri"]).name, result["state"], tuple((row[2], row[3] / 10_000) for row in result["rows"]))
                for result in canonical_dump(engine)
                if result["digest"] == make_recipe(job).digest and result["state"] != "gone"
            }
        assert seen == {(name, "failed" if rows is None else "indexed", rows or ()) for name, rows in self.files.items()}

    @rule(name=JOBS, death=DEATH)
    def gc(self, name: str, death: int | None) -> None:
        before = self.live()

        def command(fuse: Fuse) -> None:
            with self.opened() as engine, acquire(engine, name) as lease:
                storage = Burning(self.storage, fuse)
                sweep(engine, lease.token, storage, grace_seconds=0, dry_run=False, force=True)
                compact(engine, lease.token, storage, dry_run=False, progress=lambda *_: None)

        if self.survives(death, command):
            assert not self.orphans()
        assert self.live() == before

    @precondition(lambda self: self.uris())
    @rule(data=st.data(), name=JOBS, death=DEATH)
    def forget(self, data: st.DataObject, name: str, death: int | None) -> None:
        uri = data.draw(st.sampled_from(self.uris()))
        before = self.live()

        def command(fuse: Fuse) -> None:
            with self.opened() as engine, acquire(engine, name) as lease:
                caches = Shards(self.storage, Path(self._folder.name) / "shards"), Path(self._folder.name) / "copies"
                forget(engine, lease.token, Burning(self.storage, fuse), *caches, uri, progress=lambda *_: None)

        if self.survives(death, command):
            assert uri not in self.uris()
            assert not [path for path in Path(self.archive.output).rglob("*.parquet") if uri.encode() in path.read_bytes()]
        assert {key: seen for key, seen in self.live().items() if key[0] != uri} == {
            key: seen for key, seen in before.items() if key[0] != uri
        }

    @rule(name=JOBS, lost=st.booleans(), death=DEATH)
    def rebuild(self, name: str, lost: bool, death: int | None) -> None:
        before, orphans = self.live(), self.orphans()
        url = make_url(self.archive.catalog)
        if lost and url.database and url.get_backend_name() == "sqlite":
            Path(url.database).unlink()

        def command(_: Fuse) -> None:
            assert not rebuild(self.jobs[name], self.storage, force=True, progress=lambda *_: None).findings

        if not self.survives(death, command) and not self.survives(None, command):
            raise AssertionError("it cannot be done again")
        after = self.live()
        if not orphans:  # those may have later rows than what was committed
            assert {key: after.get(key) for key in before} == before

    # What holds at any time

    @invariant()
    def index_is_sound(self) -> None:
        with self.opened() as engine:
            assert_sound(engine)
            assert live_rows(engine) == live_rows_of_parts(engine, Path(self.archive.output))
            assert self.findings(engine) == []

    @invariant()
    def every_row_is_true(self) -> None:
        for (uri, _), (fingerprint, rows) in self.live().items():
            assert self.written[uri, int(fingerprint.split("-")[-1])] == rows

    # How it is looked at

    def survives(self, death: int | None, command: Callable[[Fuse], object]) -> bool:
        """Whether the command came to its end. Its process is dead then, or it has."""
        fuse = Fuse(death)
        try:
            with fuse.in_catalog(Engine):
                command(fuse)
        except Dead:
            pass
        else:
            return True
        with warnings.catch_warnings():  # the dead close nothing; their connections are to go now, not in somebody else's test
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect(1)
        for url in self.catalogs():
            engine = create_engine(url)
            with suppress(OperationalError), engine.begin() as connection:  # it has no tables yet
                connection.execute(text("UPDATE lease SET began = 'another process'"))
            engine.dispose()
        return False

    def catalogs(self) -> list[str]:
        """The catalog, and one that a killed rebuild has begun."""
        path = self.archive.catalog.removeprefix("sqlite:///")
        return [url for url in (f"sqlite:///{path}", f"sqlite:///{path}.rebuilding") if Path(url[10:]).exists()] or [path]

    @contextmanager
    def opened(self) -> Iterator[Engine]:
        engine = open_catalog(self.archive.catalog, create=True)
        try:
            yield engine
        finally:
            engine.dispose()

    def findings(self, engine: Engine) -> list[Finding]:
        found = check(engine, self.storage, deep=True, progress=lambda *_: None)
        return [finding for finding in found if finding.is_fault]

    def live(self) -> Live:
        with self.opened() as engine:
            return {
                (result["uri"], result["digest"]): (
                    result["indexed_fingerprint"],
                    tuple((label, score / 10_000) for _, _, label, score in result["rows"]),
                )
                for result in canonical_dump(engine)
                if result["rows"]
            }

    def uris(self) -> list[str]:
        return self.asked("SELECT uri FROM video ORDER BY uri")

    def live_parts(self) -> list[str]:
        return self.asked("SELECT name FROM part WHERE state = 'live'")

    def orphans(self) -> set[str]:
        return {file.name for file in self.storage.list_files("parts/")} - set(self.asked("SELECT name FROM part"))

    def asked(self, statement: str) -> list[str]:
        with self.opened() as engine, engine.connect() as connection:
            return list(connection.execute(text(statement)).scalars())


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that short histories have several parts a run, and enough of them to compact."""
    monkeypatch.setattr(pipeline, "COMMIT_ROWS", 2)
    monkeypatch.setattr(compaction, "FEWEST_PARTS", 2)


@pytest.mark.usefixtures("tight")
@pytest.mark.timeout(0 if HISTORIES > 100 else 300)
def test_any_history_is_sound_and_true(new_url: Callable[[], str], dialect: str) -> None:
    examples = HISTORIES if dialect == "sqlite" else max(HISTORIES // 5, 1)  # PostgreSQL needs five times as long
    some = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=PHASES,
    )
    run_state_machine_as_test(lambda: AnyHistory(new_url), settings=some)
