"""`indexer doctor` finds what a run would stumble over, and survives it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from indexer.config import Job, load_job
from indexer.doctor import machine
from indexer.doctor.machine import ray
from indexer.doctor.places import source, weights
from indexer.doctor.ports import is_loopback
from indexer.errors import ExecutionError, SourceError
from indexer.storage.trial import try_conditional, try_output
from tests.archives import Archive
from tests.s3 import Request, S3Place, Status


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_cpu_without_kernels_for_bf16_is_said() -> None:
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    said = "no GPU: models run on the CPU" + ("" if supported else ", in fp32, as this one is slow with bf16")
    assert machine.gpu(None).message == said


def test_nvdec_without_a_gpu_is_said_beforehand(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    job = archive.write_job(decode={"backend": "nvdec"})
    said = archive.command("doctor", str(job), CUDA_VISIBLE_DEVICES="").stdout.splitlines()
    assert said[3].startswith("warning decoders    decode.backend is nvdec, but this process may not see a GPU: ")
    assert "pyav reads every file" in said[3]


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


@pytest.fixture
def in_s3(s3: S3Place, tmp_path: Path) -> Job:
    """A job whose source and weights are in a bucket."""
    s3.put("masters/a.mp4", bytes(100))
    s3.put("own.pth", bytes(2_000_000))
    s3.put("own.txt", b"yoga")
    model = {"weights": f"{s3.uri}/own.pth", "labels": f"{s3.uri}/own.txt"}
    return load_job(Archive(tmp_path).write_job(source={"uri": f"{s3.uri}/masters"}, model=model))


def test_the_source_in_s3_is_asked_for_a_part_of_one_version(s3: S3Place, in_s3: Job) -> None:
    found = source(in_s3)
    assert (found.state, found.message) == (
        "ok", f"{s3.uri}/masters: 1 videos; parts of one version can be read (Range, If-Match)",
    )  # fmt: skip
    asked = [request.headers for request in s3.proxy.requests if request.key == "masters/a.mp4"]
    assert [headers["range"] for headers in asked] == ["bytes=0-0"] * 2
    assert asked[1]["if-match"] == '"of-no-object"'


@pytest.mark.parametrize(
    ("header", "state", "said"),
    [
        ("range", "failed", "the storage gives all of {}/masters/a.mp4 where one byte is asked for (Range)"),
        ("if-match", "warning", "the storage does not know If-Match: a video that changes while it is read is noticed later"),
    ],
)
def test_a_source_whose_storage_knows_less_is_told_so(s3: S3Place, in_s3: Job, header: str, state: str, said: str) -> None:
    def forget(request: Request) -> None:
        request.headers.pop(header, None)

    s3.proxy.plan = forget
    found = source(in_s3)
    assert (found.state, found.exit_code) == (state, 10 if state == "failed" else 0)
    assert found.message.endswith(said.format(s3.uri))


def test_a_source_that_may_be_listed_and_not_read_is_exit_10(s3: S3Place, in_s3: Job) -> None:
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.key == "masters/a.mp4" else None
    with pytest.raises(SourceError, match=r"masters/a\.mp4: .* These credentials need s3:GetObject there\."):
        source(in_s3)


def test_weights_and_labels_in_s3_are_looked_for_and_not_fetched(s3: S3Place, in_s3: Job) -> None:
    assert weights(in_s3).message == f"{s3.uri}/own.pth, 2.0 MB, will be fetched when a run begins"
    assert {request.method for request in s3.proxy.requests if request.key.startswith("own")} == {"HEAD"}
    for name, key in (("own.txt", "model.labels"), ("own.pth", "model.weights")):
        s3.delete(name)
        found = weights(in_s3)
        assert (found.state, found.exit_code) == ("failed", 15)
        assert found.message.startswith(f"{key}: {s3.uri}/{name} cannot be had: ")


LISTENS = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="this system does not say who listens")
@pytest.mark.parametrize(
    ("address", "mode", "state"),
    [("127.0.0.1", "", "ok"), ("0.0.0.0", "token", "ok"), ("0.0.0.0", "", "warning"), ("0.0.0.0", "disabled", "warning")],
)
def test_a_ray_that_lets_strangers_in_is_told_by_its_own_settings(
    address: str, mode: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # ours says nothing of that of others
    words = [sys.executable, "-c", LISTENS, address]
    environment = os.environ | {"RAY_AUTH_MODE": mode}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        monkeypatch.setattr(machine, "RAY_PORTS", {port: "Ray"})
        found = ray(None)
        process.communicate()
    assert found.state == state
    assert (f"open to the whole network: Ray ({port})" in found.message) == (state == "warning")


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
