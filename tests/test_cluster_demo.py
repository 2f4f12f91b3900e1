"""`make cluster-demo`, with videos and a model that are made quickly."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo import cluster
from demo.compared import Indexed
from tests.archives import Customised, five_videos

STANDIN = "decoding_takes_a_second"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Customised:
    archive = five_videos(Customised(tmp_path))
    for number in range(4):
        archive.add(f"sub/w{number}.mp4", first=50 + number)
    for name, value in archive.environment(STANDIN).items():
        monkeypatch.setenv(name, value)
    return archive


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demonstration puts everything; empty, and in no process's arguments, when it is over."""
    with tempfile.TemporaryDirectory(prefix="i") as name:  # short: sockets lie in it
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert {path.name for path in Path(name).iterdir()} <= {".lockfile"}  # of the package that brings PostgreSQL
        left = [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert [line for line in left if name in line] == []


@pytest.mark.timeout(600)  # two runs and six services
def test_a_cluster_that_loses_a_worker_makes_the_same_index(
    archive: Customised, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cluster.demonstrate(archive.videos, archive.settings, "juggling balls")
    said, complaints = capfd.readouterr()
    assert re.search(r"The worker at 127\.0\.0\.4 is killed while it decodes: \d+ processes\.", said)
    ended = re.findall(r"The run ended .*", said)
    assert ended == 2 * ["The run ended partial: 9 videos with 32 segments, 1 failed."]
    assert complaints.splitlines()[-1] == "sound"
    assert "- an S3 server at http://127.0.0.1:" in said
    assert ": 10 files put into s3://archive/videos\n" in said
    rows = r"\n(\d+) rows and 32 embeddings in the undisturbed index, \1 and 32 in the cluster's: the same\.\n"
    assert re.search(rows, said)


def index(score: int, *embedding: float) -> Indexed:
    """Of one video with one row; nothing for a score of 0, and none without numbers."""
    results = {("/a.mp4", "indexed", None, 0, 1000, "wheel spinning"): score} if score else {}
    return Indexed(results, {("/a.mp4", 0): np.array(embedding, np.float32)} if embedding else {})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (index(5000, 1.0, 2.0), None),
        (index(5000, 1.001, 2.0), None),
        (
            index(4999, 1.0, 2.0),
            "('/a.mp4', 'indexed', None, 0, 1000, 'wheel spinning'): 5000 undisturbed, 4999 on the cluster",
        ),
        (
            index(0, 1.0, 2.0),
            "('/a.mp4', 'indexed', None, 0, 1000, 'wheel spinning'): 5000 undisturbed, nothing on the cluster",
        ),
        (index(5000, 1.1, 2.0), "('/a.mp4', 0): embeddings that differ by 4.5%"),
        (index(5000), "('/a.mp4', 0): an embedding in one of them only"),
    ],
)
def test_a_difference_is_seen(found: Indexed, sentence: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.compare(index(5000, 1.0, 2.0), found) == (sentence is None)
    assert sentence is None or sentence in capsys.readouterr().out.splitlines()


def test_ctrl_c_leaves_nothing_running(archive: Customised, folder: Path) -> None:
    code = (
        "from pathlib import Path; import sys, yaml; from demo import cluster; cluster.listen();"
        "cluster.demonstrate(Path(sys.argv[1]), yaml.safe_load(Path(sys.argv[2]).read_text()), 'juggling balls')"
    )
    words = [sys.executable, "-c", code, str(archive.videos), str(archive.write_job())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("On the cluster:"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_a_signal_while_a_program_starts_leaves_nothing_running(tmp_path: Path) -> None:
    code = """
import os, signal, subprocess, sys
from pathlib import Path
from demo import cluster, topology

start = subprocess.Popen._execute_child

def interrupted(self, *arguments):
    start(self, *arguments)
    print(self.pid, flush=True)
    os.kill(os.getpid(), signal.SIGINT)

subprocess.Popen._execute_child = interrupted
cluster.listen()
with topology.running("sleep", "600", environment=os.environ, log=Path(sys.argv[1])):
    print("goes on", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, timeout=60)
    started = int(ended.stdout.splitlines()[0])
    left = Path(f"/proc/{started}").exists()
    if left:
        os.kill(started, signal.SIGKILL)
    assert (ended.returncode, ended.stdout, left) == (130, f"{started}\n", False)
