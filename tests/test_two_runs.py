"""One job is run by one run at a time, whatever happens to either."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.archives import Customised, five_videos, last_event

STANDIN = "short_leases_and_slow_decoding"


@pytest.fixture
def archive(tmp_path: Path) -> Customised:
    return five_videos(Customised(tmp_path))


def start(archive: Customised) -> subprocess.Popen[str]:
    """A run that has begun to decode."""
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(archive.write_job()), "--local"],
        env=os.environ | archive.environment(STANDIN), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    give_up = time.monotonic() + 60
    while not archive.remembers(STANDIN, "decoding") and time.monotonic() < give_up:
        time.sleep(0.05)
    return run


def test_a_second_run_ends_at_once_and_names_the_first(archive: Customised) -> None:
    first = start(archive)
    second = archive.run_with(STANDIN)
    assert (second.returncode, last_event(second)["outcome"]) == (11, "failed")
    assert f"process {first.pid}, since" in last_event(second)["message"]
    first.communicate(timeout=120)
    assert first.returncode == 3
    assert archive.command("run", str(archive.job_path), "--local").returncode == 3  # known failures are unchanged


def test_a_frozen_run_that_was_taken_over_changes_nothing_any_more(archive: Customised) -> None:
    first = start(archive)
    first.send_signal(signal.SIGSTOP)
    time.sleep(3)
    second = archive.command("run", str(archive.job_path), "--local", **archive.environment(STANDIN))
    assert second.returncode == 3, second.stderr
    finished, parts = archive.dump(), archive.parts
    first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 11, said
    assert "Another run has taken this job over" in said
    assert archive.dump() == finished
    assert len([result for result in finished if result["rows"]]) == 5
    assert set(parts) <= set(archive.parts)


def test_the_lease_of_a_dead_run_is_free(archive: Customised) -> None:
    first = start(archive)
    first.kill()
    first.communicate()
    assert archive.command("run", str(archive.job_path), "--local").returncode == 3
