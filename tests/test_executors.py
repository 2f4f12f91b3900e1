"""The same plan through both executors gives the same rows; on Ray, a process that dies costs what it should."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ray.exceptions import OutOfDiskError

from indexer.config import load_job
from indexer.errors import ConfigError, ExecutionError, OutputError
from indexer.execute.assembly import Assembly
from indexer.execute.batching import Batcher
from indexer.execute.contact import Contact, check_versions
from indexer.execute.ray import complaining_of_ray
from indexer.execute.resources import decode_memory, decode_slots, gpus_per_actor, gpus_per_decoder, store_bytes
from indexer.records import IndexedRange, IndexedVideo, MediaInfo, SegmentSpan, Unit, Video, VideoEnd
from tests.archives import Archive, Customised, five_videos, last_event, still_running

HELPERS = {"monitor.py", "log_monitor.py", "dashboard.py", "agent.py", "ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Of Ray, as their command lines name them."""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return five_videos(Archive(tmp_path))


def test_both_executors_write_the_same_rows(archive: Archive) -> None:
    assert archive.run(local=True).ended == "partial"
    alone = archive.dump()
    assert {Path(row["uri"]).name: row["segments"] for row in alone} == {
        "bad.mp4": 0, "v0.mp4": 2, "v1.mp4": 6, "v2.mp4": 2, "v3.mp4": 3, "v4.mp4": 11,
    }  # fmt: skip
    heard = archive.run(local=False, output={"uri": "index2"})
    assert heard.videos["indexed"] == 5
    assert archive.dump() == alone
    assert embeddings(archive.folder / "index") == embeddings(archive.folder / "index2")


def test_decoding_begins_while_a_model_of_known_size_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = five_videos(Customised(tmp_path))
    archive.run(local=False)
    expected = archive.dump()
    ended = archive.run_with("loading_waits_for_decoding", output={"uri": "index2"})
    assert ended.returncode == 3, ended.stderr
    assert archive.dump() == expected


def test_how_a_model_runs_is_measured_where_it_is_not_known(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(archive.folder / "cache"))
    heard = archive.run(local=False, model={"precision": "auto"})
    assert heard.videos["indexed"] == 5
    (known,) = json.loads((archive.folder / "cache" / "indexer" / "modes.json").read_text())
    assert " r3d_18 random-0 2x112x112 auto torch-" in known


def test_a_size_that_is_remembered_wrongly_changes_no_row(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(archive.folder / "cache"))
    archive.run(local=False)
    expected = archive.dump()
    known = archive.folder / "cache" / "indexer" / "presets.json"
    right = json.loads(known.read_text())
    assert list(right.values()) == [{"resize": [128, 171], "crop": [112, 112]}]
    known.write_text(json.dumps({key: {"resize": [64, 64], "crop": [32, 32]} for key in right}))
    archive.run(local=False, output={"uri": "index2"})
    assert archive.dump() == expected
    assert json.loads(known.read_text()) == right


def embeddings(index: Path) -> dict[tuple[str, int], list[float]]:
    rows = [row for part in (index / "parts").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return {(row["uri"], row["start_ms"]): list(row["embedding"]) for row in rows}


def test_weights_that_do_not_fit_are_told_plainly_through_ray(archive: Archive) -> None:
    (archive.folder / "bad.pth").write_text("no weights")
    ended = archive.command("run", str(archive.write_job(model={"weights": "bad.pth"})), "--json")
    assert ended.returncode == 15
    assert last_event(ended)["outcome"] == "failed"
    assert "bad.pth cannot be loaded as weights" in str(last_event(ended)["message"])
    assert "Traceback" not in ended.stderr
    assert archive.dump() == []


def test_idle_threads_of_the_model_leave_their_cores_to_the_decoders(archive: Archive) -> None:
    job = archive.write_job()
    environment = {**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, "-m", "indexer", "run", str(job), "--local", "--limit", "1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "GOMP_SPINCOUNT = '0'" in ended.stderr


def test_uv_run_does_not_send_the_folder_to_the_workers(archive: Archive) -> None:
    with (archive.folder / "large.bin").open("wb") as file:
        file.truncate(600 * 2**20)  # more than Ray sends
    uv = Path(sys.executable).with_name("uv")
    python = [str(uv), "run", "--offline", "--no-project", "--python", sys.executable, "python"]
    command = [*python, "-m", "indexer", "run", str(archive.write_job()), "--limit", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(command, cwd=archive.folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 75, ended.stderr  # stopped by --limit


def test_workers_start_with_a_runtime_environment_of_somebody_elses(archive: Archive) -> None:
    (archive.folder / "bad.pth").write_text("no weights")
    environment = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": {"SAID": "hello"}}})}
    ended = archive.command("run", str(archive.write_job(model={"weights": "bad.pth"})), "--json", **environment)
    assert "bad.pth cannot be loaded as weights" in str(last_event(ended)["message"])


@pytest.mark.parametrize(("number", "send", "code"), [(signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)])
def test_a_stopped_run_on_ray_leaves_no_process_behind(archive: Archive, number: int, send: Any, code: int) -> None:
    for count in range(8):
        archive.add(f"more{count}.mp4", first=count, frames=500)
    job = archive.write_job(sampling={"segment": "200ms", "frames": 8})
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stderr is not None
    for line in run.stderr:
        if "videos found" in line:
            break
    assert listening(run.pid) <= LOOPBACK
    assert {Path(word).name for word in words(run.pid)} & HELPERS == set()  # nobody asks them anything
    sessions = session_folders(run.pid)
    assert len(sessions) == 1
    own = os.getpriority(os.PRIO_PROCESS, run.pid)
    assert niceness(run.pid, "ray::ModelWorker") == {own}
    give_up = time.monotonic() + 30
    while own + 5 not in niceness(run.pid, "ray::") and time.monotonic() < give_up:
        time.sleep(0.05)
    assert niceness(run.pid, "ray::") == {own, own + 5}  # decoders step back
    send(run.pid, number)  # Ctrl-C reaches all processes of a terminal, a service manager's signal the first one
    run.communicate(timeout=30)
    assert run.returncode == code
    assert still_running(run.pid, patience_seconds=10) == []
    assert not any(folder.exists() for folder in sessions)
    with closing(sqlite3.connect(archive.folder / "index" / "catalog.db")) as catalog:
        assert catalog.execute("SELECT count(*) FROM lease").fetchone() == (0,)


def test_a_run_that_is_terminated_while_ray_starts_says_so(archive: Archive) -> None:
    command = [sys.executable, "-m", "indexer", "run", str(archive.write_job())]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    give_up = time.monotonic() + 60
    while not any(Path(word).name == "gcs_server" for word in words(run.pid)) and time.monotonic() < give_up:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, "interrupted before any video was begun" in said) == (143, True)
    assert still_running(run.pid, patience_seconds=10) == []


def processes(session: int) -> list[str]:
    return subprocess.run(["ps", "-s", str(session), "-o", "pid="], capture_output=True, text=True).stdout.split()


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listening(session: int) -> set[str]:
    """Addresses at which processes of a session wait for anybody to connect, as the kernel writes them."""
    sockets = set()
    for pid in processes(session):
        with suppress(OSError):
            sockets |= {str(file.readlink()) for file in Path("/proc", pid, "fd").iterdir()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    found = {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}
    assert found
    return found


def words(session: int) -> list[str]:
    """Of the command lines of all its processes."""
    return [word for pid in processes(session) for word in Path("/proc", pid, "cmdline").read_bytes().decode().split("\0")]


def niceness(session: int, name: str) -> set[int]:
    """Of its processes whose command lines begin with `name`."""
    found = set()
    for pid in processes(session):
        with suppress(OSError):  # it has ended
            if Path("/proc", pid, "cmdline").read_text().startswith(name):
                found.add(os.getpriority(os.PRIO_PROCESS, int(pid)))
    return found


def session_folders(session: int) -> set[Path]:
    """Of the Ray that a session has started."""
    return {Path(word.partition("=")[2]) for word in words(session) if word.startswith("--session_dir=")}


def test_asking_for_a_gpu_that_is_not_there_is_a_clear_error(archive: Archive) -> None:
    job = load_job(archive.write_job(ray={"gpus_per_actor": 1}))
    with pytest.raises(ConfigError, match=r"ray\.gpus_per_actor: 1 GPUs for one model, but Ray sees 0; use fewer, auto or 0"):
        gpus_per_actor(job, [{"CPU": 4}])
    assert gpus_per_actor(job, [{"GPU": 2}]) == (1.0, 1)


def test_more_models_than_gpus_are_never_waited_for(archive: Archive) -> None:
    job = load_job(archive.write_job(ray={"gpus_per_actor": 0.5, "actors": [2, 8]}))
    assert gpus_per_actor(job, [{"GPU": 2}]) == (0.5, 4)
    sixths = load_job(archive.write_job(ray={"gpus_per_actor": 0.6, "actors": [2, 8]}))
    assert gpus_per_actor(sixths, [{"GPU": 2}]) == (0.6, 2)
    with pytest.raises(ConfigError, match=r"2 models with 0\.5 GPUs each, but Ray sees 0"):
        gpus_per_actor(job, [{"CPU": 4}])


def test_a_model_does_not_spread_over_machines(archive: Archive) -> None:
    job = load_job(archive.write_job(ray={"gpus_per_actor": 2}))
    with pytest.raises(ConfigError, match=r"2 GPUs for one model, but Ray sees 2 on 2 machines, 1 on one at most; use fewer"):
        gpus_per_actor(job, [{"GPU": 1}, {"GPU": 1}])
    job = load_job(archive.write_job(ray={"gpus_per_actor": 0.4, "actors": [1, 100]}))
    assert gpus_per_actor(job, [{"GPU": 2}, {"GPU": 1}]) == (0.4, 6)  # two to a GPU


def test_what_a_head_that_does_not_decode_has_counts_for_nothing(archive: Archive) -> None:
    job = load_job(archive.write_job())
    head = {"memory": 1e9, "object_store_memory": 8e9}
    large = {"CPU": 8.0, "memory": 40e9, "object_store_memory": 4e9}
    small = {"CPU": 4.0, "memory": 8e9, "object_store_memory": 1e9}
    assert decode_slots(job, [head, large, small]) == 12
    assert store_bytes(job, [head, large, small]) == 3_000_000_000  # the small one has 250 MB for each CPU
    assert decode_memory([head, large, small], 12) == 1_600_000_000  # a quarter of 80 % of the small one
    assert decode_memory([head, large, small], 2) == 3_200_000_000
    assert decode_slots(job, [head]) == 1


def test_a_head_that_is_silent_is_given_up_before_ray_ends_this_process() -> None:
    seconds = iter([0.0, 100.0, 100.0, 110.0, 110.0, 120.0, 120.0, 130.0, 130.0, 136.0])
    with socket.create_server(("127.0.0.1", 0)) as door:
        contact = Contact(f"127.0.0.1:{door.getsockname()[1]}", clock=lambda: next(seconds))
        contact.check()
    for _ in range(3):
        contact.check()
    with pytest.raises(ExecutionError, match=r"Ray itself is gone: its head does not answer.*Finished videos are safe"):
        contact.check()


def test_machines_that_have_something_else_installed_are_named() -> None:
    here = {"Python": "3.11.7", "torch": "2.15.0"}
    check_versions(here, [("10.0.0.1", here)])
    with pytest.raises(ExecutionError, match=r"but: torch 2\.14\.0 on 10\.0\.0\.2, 2\.15\.0 here"):
        check_versions(here, [("10.0.0.1", here), ("10.0.0.2", here | {"torch": "2.14.0"})])


def test_models_and_nvdec_share_the_gpus(archive: Archive) -> None:
    job = load_job(archive.write_job(decode={"backend": "nvdec"}, ray={"actors": [1, 8]}))
    two = [{"GPU": 1.0}, {"GPU": 1.0}]
    assert gpus_per_actor(job, two) == (0.8, 2)
    assert gpus_per_decoder(job, two, 1.6, decoders=16) == 0.0249
    assert gpus_per_decoder(job, [{"CPU": 2}], 0.0, decoders=16) == 0.0  # pyav reads everything
    assert gpus_per_decoder(job, [{"GPU": 4}], 0.0, decoders=2) == 1.0  # the models are on CPUs
    with pytest.raises(ConfigError, match=r"decode\.backend: nvdec needs a GPU, and the models take all 2 that Ray sees"):
        gpus_per_decoder(job, two, 2.0, decoders=16)
    job = load_job(archive.write_job(decode={"backend": "pyav"}))
    assert gpus_per_decoder(job, two, 1.0, decoders=16) == 0.0


def test_a_cluster_that_is_not_there_is_said_at_once(archive: Archive) -> None:
    ended = archive.command("run", str(archive.write_job(ray={"address": "127.0.0.1:1"})), "--json")
    assert ended.returncode == 1
    assert last_event(ended)["message"] == "ray.address: nothing answers at 127.0.0.1:1: Connection refused"


def test_a_full_disk_of_ray_is_said_plainly() -> None:
    with (
        pytest.raises(OutputError, match=r"the disk of Ray's temporary folder \(RAY_TMPDIR, else /tmp\) is full"),
        complaining_of_ray(),
    ):
        raise OutOfDiskError


def test_batches_are_exact_and_in_order() -> None:
    batcher: Batcher[str] = Batcher(clip_bytes=10)
    batcher.add(1, 0, "a", 5)
    batcher.add(2, 0, "b", 2)
    first = batcher.take(3)
    assert [(s.pack, s.start, s.stop, s.first_clip) for s in first] == [("a", 0, 3, 0)]
    second = batcher.take(3)
    assert [(s.pack, s.start, s.stop, s.first_clip) for s in second] == [("a", 3, 5, 3), ("b", 0, 1, 0)]
    assert batcher.clips == 1


def test_a_pack_takes_memory_until_its_last_clip_is_done_or_dropped() -> None:
    batcher: Batcher[str] = Batcher(clip_bytes=10)
    batcher.add(1, 0, "a", 5)
    batcher.add(2, 0, "b", 2)
    assert batcher.alive_bytes == 70
    first, second = batcher.take(3), batcher.take(3)
    batcher.done(first)
    assert batcher.alive_bytes == 70
    batcher.done(second)
    assert batcher.alive_bytes == 20
    batcher.drop(2)
    assert (batcher.clips, batcher.alive_bytes) == (0, 0)


class Forgetful:
    """Staging that keeps nothing."""

    def load(self, video: Video) -> list[IndexedRange]:
        return []

    def save(self, finished: IndexedRange) -> None:
        pass


def test_what_a_lost_try_left_behind_never_mixes_with_the_next() -> None:
    video = Video("/v.mp4", "1-1", 1, 0.0)
    assembly = Assembly(["a", "b"], Forgetful(), top_k=1, min_score=0.0)
    (lost,) = assembly.begin(Unit((video,)))
    assembly.forget(lost)
    (again,) = assembly.begin(Unit((video,)))
    one = (np.array([[1.0, 0.0]], np.float32), np.zeros((1, 2), np.float32))
    other = (np.array([[0.0, 1.0]], np.float32), np.zeros((1, 2), np.float32))
    assert assembly.predicted(lost, 0, *one) is None
    assert assembly.predicted(again, 0, *other) is None
    done = assembly.finish(again, VideoEnd(video, MediaInfo(0, 1, 9, 9, "h264", 25), (SegmentSpan(0, 1, 1),), (), 0, 0))
    assert isinstance(done, IndexedVideo)
    assert done.segments[0].labels == ("b",)


def test_decoding_steps_back_behind_the_model_whoever_runs_it() -> None:
    code = """
import os
from indexer.execute.workers import decode_process
from indexer.records import Unit
os.nice(15)  # as Ray starts all its workers
if os.getuid() == 0:
    os.setuid(65534)
print(next(decode_process(Unit(()), None, 1 << 30, gpu=False)), os.getpriority(os.PRIO_PROCESS, 0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None 19\n", "")
