"""The same plan through both executors gives the same rows; on Ray, a process that dies costs what it should."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from indexer.config import load_job
from indexer.errors import ConfigError
from indexer.execute.assembly import Assembly
from indexer.execute.batching import Batcher
from indexer.execute.ray import _gpus_per_actor
from indexer.records import IndexedVideo, MediaInfo, SegmentSpan, Video, VideoEnd
from tests.archives import Archive

AnyArchive = TypeVar("AnyArchive", bound=Archive)


def make(archive: AnyArchive) -> AnyArchive:
    for number, frames in enumerate((50, 130, 30, 75, 260)):
        archive.add(f"v{number}.mp4", first=number * 11, frames=frames)
    (archive.videos / "bad.mp4").write_text("no video")
    return archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return make(Archive(tmp_path))


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


def embeddings(index: Path) -> dict[tuple[str, int], list[float]]:
    rows = [row for part in (index / "parts").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return {(row["uri"], row["start_ms"]): list(row["embedding"]) for row in rows}


class Customised(Archive):
    """Its worker processes run `code` when they import `module`: the way a test reaches into a process it does not start."""

    def run_on_ray(self, module: str, code: str, **sections: object) -> subprocess.CompletedProcess[str]:
        hook = """
            import sys
            from importlib.abc import MetaPathFinder

            class OnImport(MetaPathFinder):
                def find_spec(self, name, path, target=None):
                    if name == MODULE:
                        sys.meta_path.remove(self)
                        exec(CODE, {})
                    return None

            sys.meta_path.insert(0, OnImport())
        """
        text = f"MODULE = {module!r}\nCODE = {textwrap.dedent(code)!r}\n{textwrap.dedent(hook)}"
        (self.folder / "sitecustomize.py").write_text(text)
        paths = f"{self.folder}:{Path(__file__).parents[1]}"
        return self.command("run", str(self.write_job(**sections)), "--json", PYTHONPATH=paths)


def last_event(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return event


MISBEHAVING_DECODER = """
    import ctypes, os, time
    import indexer.decode.video as video

    real = video.decode_video

    def decode_video(listed, path, settings):
        if listed.uri.endswith("segfault.mp4"):
            ctypes.string_at(0)
        if listed.uri.endswith("abort.mp4"):
            os.abort()
        if listed.uri.endswith("hang.mp4"):
            ctypes.PyDLL(None).sleep(600)  # in C, with the GIL held
        if listed.uri.endswith("odd.mp4"):
            raise RuntimeError("odd file")
        if listed.uri.endswith("memory.mp4"):
            raise MemoryError
        yield from real(listed, path, settings)

    video.decode_video = decode_video
"""


def test_decoders_that_misbehave_cost_their_videos_only(tmp_path: Path) -> None:
    archive = make(Customised(tmp_path))
    for name in ("segfault", "abort", "hang", "odd", "memory"):
        archive.add(f"{name}.mp4")
    ended = archive.run_on_ray("indexer.decode.unit", MISBEHAVING_DECODER, decode={"timeout": "20s"})
    assert ended.returncode == 3, ended.stderr
    failed = [json.loads(line) for line in ended.stdout.splitlines() if "video_failed" in line]
    assert {Path(event["uri"]).stem: event["code"] for event in failed} == {
        "segfault": "E_DECODER_CRASH",
        "abort": "E_DECODER_CRASH",
        "hang": "E_TIMEOUT",
        "odd": "E_CORRUPT",
        "memory": "E_OUT_OF_MEMORY",
        "bad": "E_NOT_MEDIA",
    }
    assert last_event(ended)["videos"] == {
        "found": 11, "indexed": 5, "unchanged": 0, "failed": 6, "skipped": 0, "gone": 0, "left": 0,
    }  # fmt: skip


MODEL_THAT_DIES_ONCE = """
    import os, pathlib, signal
    import indexer.infer.network as network

    real = network.embedding_layer
    passes = []

    def die(layer, inputs):
        passes.append(1)
        once = pathlib.Path(ONCE)
        if len(passes) == 3 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def embedding_layer(built, spec):
        layer = real(built, spec)
        layer.register_forward_pre_hook(die)
        return layer

    network.embedding_layer = embedding_layer
"""


def test_a_model_that_dies_is_replaced_and_its_batch_done_again(tmp_path: Path) -> None:
    archive = make(Customised(tmp_path))
    archive.run(local=True)
    undisturbed = archive.dump()
    once = tmp_path / "died"
    code = MODEL_THAT_DIES_ONCE.replace("ONCE", repr(str(once)))
    ended = archive.run_on_ray("indexer.infer.classifier", code, output={"uri": "index2"})
    assert (ended.returncode, once.exists()) == (3, True), ended.stderr
    assert archive.dump() == undisturbed


def test_weights_that_do_not_fit_are_told_plainly_through_ray(archive: Archive) -> None:
    (archive.folder / "bad.pth").write_text("no weights")
    ended = archive.command("run", str(archive.write_job(model={"weights": "bad.pth"})), "--json")
    assert ended.returncode == 15
    assert last_event(ended)["event"] == "run_failed"
    assert "bad.pth cannot be loaded as weights" in str(last_event(ended)["message"])
    assert "Traceback" not in ended.stderr
    assert archive.dump() == []


def test_ctrl_c_on_ray_leaves_no_process_behind(archive: Archive) -> None:
    for number in range(8):
        archive.add(f"more{number}.mp4", first=number, frames=500)
    job = archive.write_job(sampling={"segment": "200ms", "frames": 8})
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stderr is not None
    for line in run.stderr:
        if "videos found" in line:
            break
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode == 130
    assert still_running(run.pid, patience_seconds=10) == []


def still_running(session: int, *, patience_seconds: float) -> list[str]:
    """Processes of a session that do not end by themselves; dead ones that wait for their parent hold nothing."""
    give_up = time.monotonic() + patience_seconds
    while True:
        listed = subprocess.run(["ps", "-s", str(session), "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
        left = [line for line in listed.splitlines() if not line.startswith("Z")]
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.2)


def test_asking_for_a_gpu_that_is_not_there_is_a_clear_error(archive: Archive) -> None:
    job = load_job(archive.write_job(ray={"gpus_per_actor": 1}))
    with pytest.raises(ConfigError, match=r"ray\.gpus_per_actor: 1 GPUs for one model, but Ray sees 0; use auto or 0"):
        _gpus_per_actor(job, 0.0)
    assert _gpus_per_actor(job, 2.0) == 1.0


def test_batches_are_exact_and_in_order() -> None:
    batcher: Batcher[str] = Batcher()
    batcher.add(1, 0, "a", 5)
    batcher.add(2, 0, "b", 2)
    first = batcher.take(3)
    assert [(s.pack, s.start, s.stop, s.first_clip) for s in first] == [("a", 0, 3, 0)]
    second = batcher.take(3)
    assert [(s.pack, s.start, s.stop, s.first_clip) for s in second] == [("a", 3, 5, 3), ("b", 0, 1, 0)]
    assert batcher.clips == 1
    batcher.put_back(second)
    assert [(s.pack, s.start, s.stop) for s in batcher.take(9)] == [("a", 3, 5), ("b", 0, 1), ("b", 1, 2)]
    batcher.add(3, 0, "c", 4)
    batcher.drop(3)
    assert batcher.clips == 0


def test_what_a_lost_try_left_behind_never_mixes_with_the_next() -> None:
    video = Video("/v.mp4", "1-1", 1, 0.0)
    assembly = Assembly(["a", "b"], top_k=1, min_score=0.0)
    lost = assembly.begin(video)
    assembly.forget(lost)
    again = assembly.begin(video)
    one = (np.array([[1.0, 0.0]], np.float32), np.zeros((1, 2), np.float32))
    other = (np.array([[0.0, 1.0]], np.float32), np.zeros((1, 2), np.float32))
    assert assembly.predicted(lost, 0, *one) is None
    assert assembly.predicted(again, 0, *other) is None
    done = assembly.finish(again, VideoEnd(video, MediaInfo(0, 1, 9, 9, "h264", 25), (SegmentSpan(0, 1, 1),), (), 0, 0))
    assert isinstance(done, IndexedVideo)
    assert done.segments[0].labels == ("b",)
