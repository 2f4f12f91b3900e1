"""Faults on a real Ray: each costs its own video at most, and what is left equals an undisturbed run."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.archives import Customised, failures, five_videos, last_event, still_running


@pytest.fixture
def archive(tmp_path: Path) -> Customised:
    return five_videos(Customised(tmp_path))


def test_decoders_that_misbehave_cost_their_videos_only(archive: Customised) -> None:
    archive.add("killed.mp4", first=3)
    expected = [row for row in archive.undisturbed() if row["rows"]]
    for name in ("segfault", "abort", "halfway", "hang", "odd", "hoard"):
        archive.add(f"{name}.mp4")
    one_at_a_time = {"decode_cpus": 1}  # three videos to a task: most have innocent neighbours
    ended = archive.run_with("decoders_misbehave", output={"uri": "index"}, decode={"timeout": "30s"}, ray=one_at_a_time)
    assert ended.returncode == 3, ended.stderr
    assert failures(ended) == {
        "segfault": "E_DECODER_CRASH",
        "abort": "E_DECODER_CRASH",
        "halfway": "E_DECODER_CRASH",
        "hang": "E_TIMEOUT",
        "odd": "E_CORRUPT",
        "hoard": "E_OUT_OF_MEMORY",
        "bad": "E_NOT_MEDIA",
    }
    assert last_event(ended)["videos"] == {
        "found": 13, "indexed": 6, "unchanged": 0, "failed": 7, "skipped": 0, "gone": 0, "left": 0,
    }  # fmt: skip
    assert archive.indexed() == expected
    tries = Counter((archive.folder / "memory" / "decoders_misbehave" / "tries").read_text().split())
    assert {name: tries[name] for name in [*failures(ended), "killed"]} == {
        "segfault": 2, "abort": 2, "halfway": 2, "hang": 1, "odd": 1, "hoard": 2, "killed": 2, "bad": 1,
    }  # fmt: skip


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_ray_that_dies_ends_the_run_and_the_next_one_completes_it(archive: Customised, victim: str) -> None:
    standin = "slow_decoding_and_short_patience"
    expected = archive.undisturbed()
    job = archive.write_job(output={"uri": "index"})
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job), "--json"],
        env=os.environ | archive.environment(standin), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    give_up = time.monotonic() + 60
    for line in run.stdout:  # type: ignore[union-attr]
        if "run_started" in line:  # the model is there
            break
    while not archive.remembers(standin, "decoding") and time.monotonic() < give_up:
        time.sleep(0.05)
    (process,) = subprocess.run(["pgrep", "-s", str(run.pid), "-x", victim], capture_output=True, text=True).stdout.split()
    os.kill(int(process), signal.SIGKILL)
    said = run.communicate(timeout=90)[0]
    assert run.returncode not in (0, 3)
    if victim == "gcs_server":
        last = json.loads(said.splitlines()[-1])
        assert (run.returncode, last["outcome"], last["exit_code"]) == (1, "failed", 1)
        assert last["message"] == "Ray itself is gone: its head does not answer. Finished videos are safe; run it again."
        with closing(sqlite3.connect(archive.folder / "index" / "catalog.db")) as catalog:
            assert catalog.execute("SELECT outcome FROM run").fetchall() == [("failed",)]
            assert catalog.execute("SELECT count(*) FROM lease").fetchone() == (0,)
    assert archive.run(local=True).ended == "partial"
    assert archive.dump() == expected
    assert still_running(run.pid, patience_seconds=60) == []


def test_nothing_spills_when_the_model_is_slower_than_decoding(tmp_path: Path) -> None:
    archive = Customised(tmp_path)
    archive.settings["sampling"] = {"segment": "200ms"}
    first = archive.add("v0.mp4")
    for number in range(1, 60):
        (archive.videos / f"v{number}.mp4").write_bytes(first.read_bytes())
    ended = archive.run_with("model_is_slow", ray={"object_store": "80M"})
    assert ended.returncode == 0, ended.stderr
    assert (archive.folder / "memory" / "model_is_slow" / "spilled").read_text() == ""
    assert last_event(ended)["clips"] == 600  # 360 MB of pixels through a store of 80 MB
