"""What servers and networks do to a catalog in PostgreSQL: nothing is lost, nothing is done twice, and the user is told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event

from indexer.catalog import connect, lease
from indexer.catalog.commit import adopt, claim, commit, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading, writing
from indexer.catalog.lease import acquire
from indexer.catalog.lookup import failures, runs
from indexer.errors import ConfigError, DatabaseError
from indexer.index import index_of
from indexer.records import Outcome
from tests.archives import Archive
from tests.catalogs import LABELS, RECIPES, a_part, failed, index, indexed, part_states, shown, start, stats, video
from tests.dump import assert_sound, canonical_dump
from tests.postgres import Cut, Postgres, Wire

CUTS: list[Cut] = [("before", b"COMMIT\0"), ("after", b"COMMIT\0")]
IN_THE_ROWS: Cut = ("before", b"\t9000\n")


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def engine(postgres: Postgres, database: str) -> Iterator[Engine]:
    """Reaches the server whatever happens to the wire."""
    engine = open_catalog(postgres.url(database), create=True)
    yield engine
    assert_sound(engine)
    engine.dispose()


@pytest.fixture
def wired(engine: Engine, wire: Wire, database: str) -> Iterator[Engine]:
    """The same catalog, through the wire."""
    wired = open_catalog(wire.url(database), create=False)
    assert wired is not None
    yield wired
    wired.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "PATIENCE_SECONDS", 0.2)


# Nothing is done twice


@pytest.mark.parametrize("cut", [*CUTS, IN_THE_ROWS])
def test_a_commit_whose_answer_is_lost_is_done_once(engine: Engine, wired: Engine, wire: Wire, cut: Cut) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.2)), indexed("b", "1", ("yoga", 0.2)))
    run = start(wired)
    outcomes = [indexed("a", "2", ("yoga", 0.9), ("archery", 0.4)), failed("b", "2"), indexed("c", "1", ("yoga", 0.9))]
    claim(wired, run, "/archive", [outcome.video for outcome in outcomes])
    wire.cut = cut
    report = commit(wired, run, a_part(outcomes), outcomes)
    assert wire.cut is None
    assert (report.committed, report.dropped) == (("/archive/a", "/archive/b", "/archive/c"), ())
    assert shown(engine) == {
        ("a", "A"): ("indexed", (("yoga", 0.9), ("archery", 0.4))),
        ("b", "A"): ("failed", ()),
        ("c", "A"): ("indexed", (("yoga", 0.9),)),
    }
    assert stats(engine) == {("A", "yoga", 9): 2, ("A", "archery", 4): 1}
    assert part_states(engine) == ["retired", "live"]


@pytest.mark.parametrize("cut", CUTS)
def test_a_part_that_somebody_replaced_meanwhile_does_not_come_back(
    engine: Engine, wired: Engine, wire: Wire, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(wired)
    old = [indexed("a", "1", ("yoga", 0.1))]
    claim(wired, run, "/archive", [video("a")])
    pause = time.sleep

    def meanwhile(seconds: float) -> None:
        monkeypatch.setattr(time, "sleep", pause)
        index(engine, indexed("a", "1", ("archery", 0.9)))

    monkeypatch.setattr(time, "sleep", meanwhile)
    wire.cut = cut
    commit(wired, run, a_part(old), old)
    assert shown(engine) == {("a", "A"): ("indexed", (("archery", 0.9),))}


@pytest.mark.parametrize("cut", CUTS)
def test_all_that_a_run_does_is_done_once(engine: Engine, wired: Engine, wire: Wire, cut: Cut) -> None:
    index(engine, indexed("old", "1", ("yoga", 0.5)), failed("other"), source="/elsewhere")

    def with_a_cut(call: Callable[[], Any]) -> Any:
        wire.cut = cut
        answer = call()
        assert wire.cut is None
        return answer

    held = with_a_cut(lambda: acquire(wired, "archive"))
    run = with_a_cut(lambda: start_run(wired, lease=held, recipe=RECIPES["A"], labels=LABELS))
    with_a_cut(lambda: claim(wired, run, "/archive", [video("a")]))
    with_a_cut(lambda: commit(wired, run, None, [failed("a")]))
    with_a_cut(lambda: mark_gone(wired, run, ["/archive/old"]))
    with_a_cut(lambda: adopt(wired, run, "/archive", ["/archive/other"]))
    with_a_cut(lambda: finish_run(wired, run, "partial", {"videos": {}}))
    assert [(row.run_id, row.outcome) for row in runs(engine, 10) if row.job == "archive"] == [(run.run_id, "partial")]
    assert [(row.uri, row.attempts) for row in failures(engine, run.recipe_id)] == [("/archive/a", 1), ("/archive/other", 1)]
    assert shown(engine)["old", "A"] == ("gone", ())
    assert [row[0] for row in ask(engine, "SELECT source FROM video ORDER BY uri")] == ["/archive", "/elsewhere", "/archive"]
    assert len(ask(engine, "SELECT * FROM lease WHERE job = 'archive'")) == 1


# The database says: once more


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_transaction_that_lost_a_conflict_is_done_again(engine: Engine, code: str) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE SEQUENCE tries")
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('tries') < 3 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
        )
        connection.exec_driver_sql("CREATE TRIGGER refuse BEFORE INSERT ON label_stat FOR EACH ROW EXECUTE FUNCTION refuse()")
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.5),))}
    assert ask(engine, "SELECT last_value FROM tries") == [(3,)]


def test_the_victim_of_a_real_deadlock_is_done_again(engine: Engine, postgres: Postgres, database: str) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    run = start(engine)
    claim(engine, run, "/archive", [video("a", "2")])
    with postgres.connect(database) as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that it is not the victim
        other.execute("BEGIN")
        other.execute("SELECT * FROM label_stat FOR UPDATE")
        failed_with: list[Any] = []
        event.listen(engine, "handle_error", lambda context: failed_with.append(context.original_exception.sqlstate))

        def cross(*args: Any) -> None:
            """When the commit has locked the video, and is on its way to the counts."""
            if args[2].startswith("UPDATE video") and not crossing.ident:
                crossing.start()
                time.sleep(0.1)

        def wait_for_the_video() -> None:
            other.execute("SELECT * FROM video FOR UPDATE")
            other.execute("COMMIT")

        crossing = threading.Thread(target=wait_for_the_video)
        event.listen(engine, "before_cursor_execute", cross)
        outcomes = [indexed("a", "2", ("yoga", 0.6))]
        commit(engine, run, a_part(outcomes), outcomes)
        crossing.join()
    assert failed_with == ["40P01"]
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.6),))}


def test_a_server_that_crashes_in_the_middle_of_a_commit_ends_no_run(engine: Engine, postgres: Postgres) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    crashes = iter([postgres.crash])

    def crash(*args: Any) -> None:
        if args[2].startswith("UPDATE video"):
            next(crashes, lambda: None)()

    event.listen(engine, "before_cursor_execute", crash)
    index(engine, indexed("a", "2", ("archery", 0.6)))
    assert list(crashes) == []
    assert shown(engine) == {("a", "A"): ("indexed", (("archery", 0.6),))}


def test_a_server_that_crashes_ends_no_lease(engine: Engine, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    failed_beats: list[Any] = []
    event.listen(engine, "handle_error", failed_beats.append)
    with acquire(engine, "archive") as held:
        run = start_run(engine, lease=held, recipe=RECIPES["A"], labels=LABELS)
        postgres.crash()
        while not failed_beats:
            time.sleep(0.01)
        index(engine, indexed("a", "1", ("yoga", 0.5)), run=run)
    assert ask(engine, "SELECT * FROM lease") == []


def test_a_transaction_that_froze_loses_its_locks_and_is_done_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "SILENCE_SECONDS", 0.1)
    freezes = iter([0.5])

    def freeze(*args: Any) -> None:
        if args[2].startswith("UPDATE video"):
            time.sleep(next(freezes, 0))

    event.listen(engine, "before_cursor_execute", freeze)
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    assert list(freezes) == []
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.5),))}


def test_two_jobs_work_on_the_same_videos_at_once(engine: Engine) -> None:
    problems: list[BaseException] = []

    def work(recipe: str, seed: int) -> None:
        dice = random.Random(seed)
        try:
            run = start(engine, recipe)
            for _ in range(12):
                names = dice.sample("abcdef", 4)
                outcomes: list[Outcome] = [
                    indexed(name, dice.choice("12"), *dice.sample([("yoga", 0.5), ("bowling", 0.9), ("archery", 0.1)], 2))
                    for name in names[:3]
                ]
                outcomes.append(failed(names[3], dice.choice("12")))
                index(engine, *outcomes, run=run)
                mark_gone(engine, run, [f"/archive/{dice.choice('abcdef')}"])
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=work, args=(recipe, seed)) for seed, recipe in enumerate("ABAB")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert_sound(engine)


# The user is told


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_gone_stops_the_run_with_13(wired: Engine, wire: Wire) -> None:
    run = start(wired)
    wire.close()
    with pytest.raises(
        DatabaseError, match=r"Run the same command again when the server answers; what was committed stays"
    ) as caught:
        index(wired, indexed("a", "1", ("yoga", 0.5)), run=run)
    assert caught.value.exit_code == 13


def test_a_server_that_takes_no_changes_is_said_so(engine: Engine, postgres: Postgres, database: str) -> None:
    index(engine, indexed("a", "1", ("yoga", 0.5)))
    postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    copy = open_catalog(postgres.url(database), create=True)
    with pytest.raises(DatabaseError, match=r"takes no changes: name the primary server in output\.catalog") as caught:
        start(copy)
    assert caught.value.exit_code == 13
    assert len(canonical_dump(copy)) == 1
    copy.dispose()
    empty = postgres.database()
    postgres.execute(f"ALTER DATABASE {empty} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseError, match="takes no changes"):
        open_catalog(postgres.url(empty), create=True)


def test_a_user_without_rights_is_said_so(postgres: Postgres, database: str) -> None:
    postgres.execute("DROP ROLE IF EXISTS guest")
    postgres.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(DatabaseError, match=r"permission denied for schema public.* Give this user a schema"):
        open_catalog(postgres.url(database, user="guest"), create=True)


def test_a_database_that_is_not_there_is_said_so(postgres: Postgres) -> None:
    with pytest.raises(DatabaseError, match='database "none" does not exist'):
        open_catalog(postgres.url("none"), create=True)


def test_a_table_that_stays_locked_is_said_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "LOCK_SECONDS", 0.1)
    run = start(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("LOCK TABLE video")
        with pytest.raises(DatabaseError, match="Another program kept it locked") as caught:
            claim(engine, run, "/archive", [video("a")])
    assert caught.value.exit_code == 13


@pytest.mark.parametrize("address", ["indexer:s3cret@127.0.0.1:1/archive", "indexer@127.0.0.1:1/archive?password=s3cret"])
def test_a_password_never_shows(address: str) -> None:
    with pytest.raises(DatabaseError, match=r"indexer(:\*\*\*)?@127\.0\.0\.1:1/archive.*Connection refused") as caught:
        open_catalog(f"postgresql+psycopg://{address}", create=False)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in "".join(map(str, (caught.value.__cause__, caught.value.__context__)))


def test_a_command_tells_of_its_database_without_the_password(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    job = archive.write_job(output={"catalog": "postgresql://me:${DB_PASSWORD}@127.0.0.1:1/archive"})
    ended = archive.command("run", str(job), "--json", DB_PASSWORD="s3cret")
    assert ended.returncode == 13
    assert "postgresql+psycopg://me:***@127.0.0.1:1/archive" in ended.stdout + ended.stderr
    assert "s3cret" not in ended.stdout + ended.stderr


def test_a_search_tells_of_an_empty_database_without_its_password(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    job = Archive(tmp_path).write_job(output={"catalog": f"{postgres.schema()}&password=${{DB_PASSWORD}}"})
    with pytest.raises(ConfigError, match=r"^there is no index yet: postgresql\+psycopg://.* does not exist") as caught:
        index_of(job)
    assert "s3cret" not in str(caught.value)


# A whole run


def test_a_job_runs_and_is_searched_with_its_catalog_in_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    archive.add("b.mp4", first=50)
    (archive.videos / "bad.mp4").write_text("no video")
    archive.run()
    in_a_file = archive.dump()
    url = postgres.schema()
    assert archive.run(output={"catalog": url}).videos["indexed"] == 2
    assert archive.dump() == in_a_file
    assert archive.run().videos["unchanged"] == 2
    row = next(result for result in in_a_file if result["rows"])["rows"][0]
    assert row[2] in [moment["label"] for moment in archive.search(f'label:"{row[2]}"')["moments"]]
    engine = create_engine(url)
    assert ask(engine, "SELECT * FROM lease") == []
    engine.dispose()


def ask(engine: Engine, query: str) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.exec_driver_sql(query).all())
