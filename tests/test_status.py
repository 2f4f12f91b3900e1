"""What `indexer status` says, and keeps saying."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from indexer.catalog.connect import open_catalog, writing
from indexer.config import load_job
from indexer.errors import ConfigError
from indexer.status_view import show_status
from tests.archives import Archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("status"))
    archive.add("a.mp4")
    archive.run()
    return archive


def finished(archive: Archive, *, hours_ago: float, outcome: str) -> None:
    """Let the only run have ended then, and so."""
    engine = open_catalog(load_job(archive.job_path).output.catalog, create=True)
    with writing(engine) as connection:
        values = {"then": time.time() - hours_ago * 3600, "outcome": outcome}
        connection.execute(text("UPDATE run SET started_at = :then, finished_at = :then, outcome = :outcome"), values)
    engine.dispose()


@pytest.mark.parametrize(
    ("hours_ago", "outcome", "code"),
    [(1, "complete", 0), (1, "partial", 0), (40, "complete", 4), (1, "stopped", 4), (1, "failed", 4)],
)
def test_only_a_recent_run_that_ended_well_is_good_enough(
    archive: Archive, capsys: pytest.CaptureFixture[str], hours_ago: float, outcome: str, code: int
) -> None:
    finished(archive, hours_ago=hours_ago, outcome=outcome)
    assert show_status(archive.job_path, watch=False, max_age="36h", as_json=True) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["stale"] is (code == 4)
    if (hours_ago, outcome) == (40, "complete"):
        assert "the last run of test that ended well was 40.0 hours ago" in err
        assert "more than 36h" in err
    elif code == 4:
        assert err.startswith("stale: no run of test has ended well yet")
    else:
        assert err == ""


def test_the_runs_of_another_job_do_not_count(archive: Archive) -> None:
    finished(archive, hours_ago=1, outcome="complete")
    other = archive.folder / "other.yaml"
    other.write_text(archive.job_path.read_text().replace("name: test", "name: other"))
    assert show_status(archive.job_path, watch=False, max_age="36h", as_json=False) == 0
    assert show_status(other, watch=False, max_age="36h", as_json=False) == 4


def test_a_job_that_never_ran_is_stale(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    ended = archive.command("status", str(archive.write_job()), "--max-age", "36h")
    assert (ended.returncode, ended.stderr.split(";")[0]) == (4, "stale: no run of test has ended well yet")


@pytest.mark.parametrize(
    ("max_age", "watch", "sentence"),
    [
        ("36", False, '--max-age: "36" has no unit; write 36s for seconds'),
        ("36h", True, "--watch and --max-age do not go together"),
    ],
)
def test_what_cannot_be_asked_is_refused(archive: Archive, max_age: str, watch: bool, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        show_status(archive.job_path, watch=watch, max_age=max_age, as_json=False)


def watch(archive: Archive, *options: str, stdout: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "indexer", "status", str(archive.job_path), "--watch", *options]
    return subprocess.Popen(words, stdout=stdout, stderr=subprocess.PIPE)


def test_watching_writes_plain_lines_into_a_pipe_and_ends_with_ctrl_c(archive: Archive) -> None:
    finished(archive, hours_ago=1, outcome="complete")
    process = watch(archive, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert line[19:] == "  1 indexed; 00:00:02 of video, 2 segments; run 1: complete\n"
    assert (process.returncode, said) == (0, "")


def test_watching_with_json_writes_one_document_a_line(archive: Archive) -> None:
    process = watch(archive, "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert document["index"]["videos"]["indexed"] == 1
    assert set(document) == {"index", "runs", "last_success"}


def test_watching_redraws_on_a_terminal(archive: Archive) -> None:
    ours, theirs = pty.openpty()
    process = watch(archive, stdout=theirs)
    os.close(theirs)
    seen = b""
    while seen.count(b"videos indexed") < 2:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[1A" in seen  # the cursor went up, over what was drawn before
