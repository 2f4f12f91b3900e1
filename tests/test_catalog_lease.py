"""One job is run by one run at a time, whatever happens to the first one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from indexer.catalog import connect, lease
from indexer.catalog.commit import adopt, claim, commit, finish_run, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading, writing
from indexer.catalog.holder import Holder
from indexer.catalog.lease import acquire
from indexer.errors import LeaseLost, RunHeld
from tests.archives import Archive
from tests.catalogs import LABELS, RECIPES, a_part, index, indexed, shown, start, video
from tests.dump import canonical_dump

TESTS = Path(__file__).parent


def leases(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.exec_driver_sql("SELECT * FROM lease ORDER BY token").all())


def change(engine: Engine, assignment: str) -> None:
    """Change the only lease, without asking its holder."""
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE lease SET {assignment}")


def in_threads(number: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Holding


def test_a_second_run_is_told_who_the_first_one_is(engine: Engine) -> None:
    acquire(engine, "archive")
    with pytest.raises(RunHeld) as caught:
        acquire(engine, "archive")
    assert caught.value.exit_code == 11
    words = re.fullmatch(
        r"The job archive is at work already: host (.+), process (\d+), since (\d{4}-\d\d-\d\d \d\d:\d\d)\."
        r" Let it end, or stop it\. If that process is dead, the job is free in (\d+) seconds\.",
        str(caught.value),
    )
    assert words
    assert (words[1], words[2]) == (os.uname().nodename, str(os.getpid()))
    assert abs(time.mktime(time.strptime(words[3], "%Y-%m-%d %H:%M")) - time.time()) < 120
    assert 50 <= int(words[4]) <= 60


@pytest.mark.parametrize("hours", [-48, 48])
def test_the_clock_of_the_host_does_not_matter(engine: Engine, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    held = acquire(engine, "archive")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    with pytest.raises(RunHeld, match=r"free in [56][0-9] seconds"):
        acquire(engine, "archive")
    held.renew()
    [row] = leases(engine)
    assert abs(row.expires_at - real() - 60) < 20


def test_jobs_do_not_wait_for_each_other(engine: Engine) -> None:
    assert acquire(engine, "archive").token != acquire(engine, "other").token
    assert [row.job for row in leases(engine)] == ["archive", "other"]


def test_a_lease_leaves_nothing_behind_and_the_next_token_is_higher(engine: Engine) -> None:
    tokens = []
    for _ in range(3):
        with acquire(engine, "archive") as held:
            tokens.append(held.token)
        assert leases(engine) == []
    assert tokens == sorted(set(tokens))


def test_of_eight_at_once_one_gets_the_job(engine: Engine) -> None:
    won, refused = [], []

    def take() -> None:
        try:
            won.append(acquire(engine, "archive").token)
        except RunHeld as error:
            refused.append(error)

    in_threads(8, take)
    assert (len(won), len(refused)) == (1, 7)
    change(engine, "expires_at = expires_at - 61")
    in_threads(8, take)
    assert (len(won), len(refused)) == (2, 14)
    assert won[1] > won[0]
    assert [row.token for row in leases(engine)] == won[1:]


def test_a_held_lease_is_renewed_all_the_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    with acquire(engine, "archive"):
        change(engine, "expires_at = 0")
        wait_until(lambda: leases(engine)[0].expires_at > time.time() + 50)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lease")]


def test_a_database_that_is_busy_for_some_beats_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = open_catalog(f"sqlite:///{tmp_path}/catalog.db", create=True)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(connect, "BUSY_SECONDS", 0.01)
    engine = open_catalog(f"sqlite:///{tmp_path}/catalog.db", create=False)
    failed: list[Any] = []
    event.listen(engine, "handle_error", failed.append)
    with acquire(engine, "archive") as held:
        run = start_run(patient, lease=held, recipe=RECIPES["A"], labels=LABELS)
        with writing(patient):
            wait_until(lambda: len(failed) >= 3)
        monkeypatch.setattr(lease, "BEAT_SECONDS", 1000)
        index(patient, indexed("a", "1", ("yoga", 0.5)), run=run)
    assert leases(engine) == []
    engine.dispose()
    patient.dispose()


# Taking over


def dies_with_the_lease(url: str) -> None:
    acquire(open_catalog(url, create=True), "archive")
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(call: str, **options: Any) -> subprocess.Popen[str]:
    code = f"import tests.test_catalog_lease as t; t.{call}"
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent, text=True, stdout=subprocess.PIPE, **options)


def test_the_lease_of_a_process_that_died_is_free_at_once(catalog_url: str) -> None:
    with in_a_process(f"dies_with_the_lease({catalog_url!r})") as process:
        assert process.wait() == -signal.SIGKILL
    engine = open_catalog(catalog_url, create=False)
    assert engine is not None
    [left] = leases(engine)
    with acquire(engine, "archive") as held:
        assert held.token > left.token
    assert leases(engine) == []
    engine.dispose()


def test_a_process_that_cannot_be_seen_has_a_minute(engine: Engine) -> None:
    gone = 2**22 + 1  # no process has this number
    first = acquire(engine, "archive")
    change(engine, f"host = 'elsewhere', kernel = 'of elsewhere', pid = {gone}, expires_at = expires_at - 59")
    with pytest.raises(RunHeld, match=rf"host elsewhere, process {gone}, since .* free in [01] seconds"):
        acquire(engine, "archive")
    change(engine, "expires_at = expires_at - 1")
    assert acquire(engine, "archive").token > first.token


def test_who_is_gone_is_known_for_certain_or_not_at_all() -> None:
    this = Holder.this_process()
    assert not this.is_gone()
    assert replace(this, began="1").is_gone()  # the number is this process's now, and was another's
    assert replace(this, pid=2**22 + 1).is_gone()
    assert not replace(this, pid=2**22 + 1, kernel="another boot").is_gone()
    assert not replace(this, pid=2**22 + 1, kernel="").is_gone()
    assert not replace(this, pid=2**22 + 1, host="its copy").is_gone()
    assert not replace(this, pid=1, began=Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]).is_gone()


def test_a_dead_process_that_nobody_buried_is_gone() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    began = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    holder = replace(Holder.this_process(), pid=process.pid, began=began)
    assert not holder.is_gone()
    process.kill()
    wait_until(holder.is_gone)
    process.wait()
    assert holder.is_gone()


# The fence


def test_a_run_that_was_taken_over_changes_nothing(engine: Engine) -> None:
    lost = acquire(engine, "archive")
    run = start_run(engine, lease=lost, recipe=RECIPES["A"], labels=LABELS)
    index(engine, indexed("a", "1", ("yoga", 0.9)), run=run)
    claim(engine, run, "/archive", [video("b")])
    change(engine, "expires_at = expires_at - 61")
    second = start(engine, job="archive")
    index(engine, indexed("c", "1", ("yoga", 0.8)), run=second)
    before = canonical_dump(engine)
    late = [indexed("b", "1", ("yoga", 0.7))]
    calls: list[Callable[[], object]] = [
        lambda: claim(engine, run, "/archive", [video("new")]),
        lambda: adopt(engine, run, "/elsewhere", ["/archive/a"]),
        lambda: mark_gone(engine, run, ["/archive/a"]),
        lambda: commit(engine, run, a_part(late), late),
        lambda: finish_run(engine, run, "complete", {}),
        lambda: start_run(engine, lease=lost, recipe=RECIPES["B"], labels=LABELS),
        lost.renew,
    ]
    for call in calls:
        with pytest.raises(LeaseLost, match="Another run has taken this job over") as caught:
            call()
        assert caught.value.exit_code == 11
    lost.release()
    assert canonical_dump(engine) == before
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT outcome FROM run ORDER BY id").scalars().all() == [None, None]
        assert connection.exec_driver_sql("SELECT DISTINCT source FROM video").scalars().all() == ["/archive"]
    assert [row.token for row in leases(engine)] == [second.lease_token]


def test_a_lease_that_ran_out_is_good_until_somebody_wants_it(engine: Engine) -> None:
    first = acquire(engine, "archive")
    run = start_run(engine, lease=first, recipe=RECIPES["A"], labels=LABELS)
    change(engine, "expires_at = 0")
    index(engine, indexed("a", "1", ("yoga", 0.9)), run=run)
    first.renew()
    with pytest.raises(RunHeld):
        acquire(engine, "archive")


def waits_and_commits(url: str) -> None:
    """A run that says when it has claimed its video, and commits it a line later."""
    engine = open_catalog(url, create=True)
    with acquire(engine, "archive") as held:
        run = start_run(engine, lease=held, recipe=RECIPES["A"], labels=LABELS)
        claim(engine, run, "/archive", [video("a")])
        print("claimed", flush=True)
        input()
        outcomes = [indexed("a", "1", ("yoga", 0.1))]
        try:
            commit(engine, run, a_part(outcomes), outcomes)
        except LeaseLost as error:
            print(error)
            sys.exit(error.exit_code)


def test_a_run_that_was_frozen_for_long_cannot_commit_any_more(engine: Engine, catalog_url: str) -> None:
    with in_a_process(f"waits_and_commits({catalog_url!r})", stdin=subprocess.PIPE) as frozen:
        assert frozen.stdout
        assert frozen.stdout.readline() == "claimed\n"
        frozen.send_signal(signal.SIGSTOP)
        with pytest.raises(RunHeld):
            acquire(engine, "archive")
        change(engine, "expires_at = expires_at - 61")
        with acquire(engine, "archive") as held:
            run = start_run(engine, lease=held, recipe=RECIPES["A"], labels=LABELS)
            index(engine, indexed("a", "1", ("archery", 0.9)), run=run)
            frozen.send_signal(signal.SIGCONT)
            said, _ = frozen.communicate("go on\n")
            assert "Another run has taken this job over" in said
            assert frozen.returncode == 11
            assert [row.token for row in leases(engine)] == [held.token]
    assert shown(engine) == {("a", "A"): ("indexed", (("archery", 0.9),))}


def test_taking_over_waits_for_a_commit_that_has_begun(engine: Engine) -> None:
    first = acquire(engine, "archive")
    run = start_run(engine, lease=first, recipe=RECIPES["A"], labels=LABELS)
    change(engine, "expires_at = 0")
    tokens: list[int] = []
    second = threading.Thread(target=lambda: tokens.append(acquire(engine, "archive").token))

    def meet(*args: Any) -> None:
        if args[2].startswith("UPDATE video") and not second.ident:
            second.start()
            second.join(0.3)
            assert second.is_alive()
            if engine.dialect.name == "postgresql":
                first.renew()  # does not wait for the commit
                change(engine, "expires_at = 0")

    event.listen(engine, "before_cursor_execute", meet)
    index(engine, indexed("a", "1", ("yoga", 0.9)), run=run)
    second.join()
    assert shown(engine) == {("a", "A"): ("indexed", (("yoga", 0.9),))}
    assert [row.token for row in leases(engine)] == tokens


# The command


def test_a_second_command_ends_with_11_and_leaves_the_first_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    engine = open_catalog(f"sqlite:///{tmp_path}/index/catalog.db", create=True)
    with acquire(engine, "test"):
        ended = archive.command("run", str(archive.write_job()), "--local")
    assert ended.returncode == 11
    assert f"The job test is at work already: host {os.uname().nodename}, process {os.getpid()}, since " in ended.stderr
    assert canonical_dump(engine) == []
    engine.dispose()


def wait_until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)
