"""`indexer doctor` finds what a run would stumble over, and survives it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indexer.config import load_job
from indexer.doctor.machine import is_loopback, ray
from indexer.errors import ExecutionError
from indexer.storage.trial import try_conditional, try_output
from tests.archives import Archive
from tests.s3 import S3Place, Status


def checked(archive: Archive, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings by name."""
    ended = archive.command("doctor", *options, "--json", **environment)
    assert "Traceback" not in ended.stderr
    document = json.loads(ended.stdout)
    assert document["exit_code"] == ended.returncode
    return ended.returncode, {finding.pop("name"): finding for finding in document["checks"]}


def test_a_sound_job_gets_a_line_for_each_check(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4", frames=5)
    (archive.folder / "index").mkdir()
    code, found = checked(archive, str(archive.write_job()))
    assert list(found) == [
        *("job", "python", "packages", "decoders", "gpu", "ray", "scratch", "cache", "source", "output", "catalog", "weights"),
    ]
    assert code == 0
    assert found["source"] == {"state": "ok", "message": f"{archive.videos}: 1 videos", "fix": "", "exit_code": 0}
    assert found["decoders"]["message"].startswith("av 18.")
    assert found["weights"]["state"] == "warning"  # they are random
    assert list((archive.folder / "index").iterdir()) == []


def test_everything_that_is_wrong_is_said_and_the_first_gives_the_exit_code(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    (archive.folder / "catalog.db").write_text("this is no database, but it is long enough to be taken for one" * 20)
    archive.write_job(
        source={"uri": "elsewhere"}, output={"catalog": "sqlite:///catalog.db"},
        model={"weights": "KINETICS400_V1"},
    )  # fmt: skip
    code, found = checked(
        archive, str(archive.job_path), TORCH_HOME=str(tmp_path / "torch"), INDEXER_WEIGHTS_URL="http://127.0.0.1:9/weights"
    )
    assert code == 10
    assert {name: finding["exit_code"] for name, finding in found.items() if finding["state"] == "failed"} == {
        "source": 10, "catalog": 13, "weights": 15,
    }  # fmt: skip
    assert "http://127.0.0.1:9/weights/r3d_18-b3b3357e.pth cannot be had" in found["weights"]["message"]
    assert not (tmp_path / "torch").exists()
    assert found["python"]["state"] == "ok"


def test_a_wrong_job_is_one_line_and_the_machine_is_looked_at(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write_job(sampling={"segmnt": "1s"})
    ended = archive.command("doctor", str(archive.job_path), INDEXER_SCRATCH=str(tmp_path / "nowhere"))
    assert ended.returncode == 2
    first, *others = ended.stdout.splitlines()
    assert first.startswith("failed  job         ")
    assert "did you mean 'segment'?" in first
    assert [line.split()[1] for line in others] == ["python", "packages", "decoders", "gpu", "ray", "scratch", "cache"]
    assert others[5].startswith(f"failed  scratch     INDEXER_SCRATCH: {tmp_path}/nowhere/")


def test_a_ray_that_does_not_answer_is_said_as_a_run_would(tmp_path: Path) -> None:
    job = load_job(Archive(tmp_path).write_job(ray={"address": "127.0.0.1:9"}))
    with pytest.raises(ExecutionError, match=r"ray\.address: nothing answers at 127\.0\.0\.1:9"):
        ray(job)


def test_checks_that_crash_hang_or_raise_cost_their_own_line() -> None:
    script = """
import os, signal, time
from indexer.doctor.examine import examine
from indexer.doctor.findings import ok
checks = {
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV), "source": lambda: time.sleep(60), "wrong": lambda: 1 / 0,
    "long": lambda: ok("x" * 1_000_000), "well": lambda: ok("fine"),
}
for name, finding in examine(checks, limit_seconds=2):
    print(name, finding.state, finding.exit_code, finding.message[:60], sep="|")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert ended.stdout.splitlines() == [
        "crash|failed|1|the check crashed (SIGSEGV): a library is broken",
        "source|failed|10|no answer in 2 seconds",
        "wrong|failed|1|could not be checked: ZeroDivisionError: division by zero",
        "long|ok|0|" + "x" * 60,
        "well|ok|0|fine",
    ]


def test_the_output_in_s3_is_tried_without_leaving_anything(s3: S3Place) -> None:
    assert try_output(f"{s3.uri}/index") is None
    assert try_conditional(f"{s3.uri}/index") is True
    assert s3.listed() == []


def test_a_storage_without_conditional_requests_is_known(s3: S3Place) -> None:
    s3.proxy.plan = lambda request: Status(501, "NotImplemented") if "if-none-match" in request.headers else None
    assert try_conditional(f"{s3.uri}/index") is False


def test_a_file_that_may_not_be_deleted_is_named(s3: S3Place) -> None:
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.method == "DELETE" else None
    kept = try_output(f"{s3.uri}/index")
    assert [key.rpartition("/")[2] for key in s3.listed()] == [kept]


@pytest.mark.skipif(sys.byteorder != "little", reason="addresses as a little-endian machine shows them")
@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("0100007F", True),
        ("00000000", False),
        ("0A01A8C0", False),
        ("00000000000000000000000001000000", True),
        ("00000000000000000000000000000000", False),
        ("0000000000000000FFFF00000100007F", True),
        ("0000000000000000FFFF00000A01A8C0", False),
    ],
)
def test_loopback_is_told_from_the_network(address: str, is_local: bool) -> None:
    assert is_loopback(address) is is_local
