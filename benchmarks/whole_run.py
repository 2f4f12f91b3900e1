"""A whole `indexer run` against the floor: what decoding and the model cost alone, shared by all cores without a gap.

Thirty minutes of 720p H.264, 2-second segments, one clip each, r3d_18. The floor is (decode-only CPU seconds: PyAV, every
frame, no conversion, + model-only CPU seconds: the same number of clips from memory, in the mode that the run chose) / cores.
INDEXER_BENCH_SECONDS: of video, 1800 by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from demo.archive import Block, write_video
from indexer.config import load_job

JOB = """
name: benchmark
source: {uri: videos, min_age: 0s}
model: {name: r3d_18, weights: random}
sampling: {segment: 2s}
output: {uri: OUT}
"""
VIDEO_SECONDS = 60


def decode_only(path: Path) -> float:
    """CPU seconds."""
    began = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - began


def model_only(job: Path, batches: int) -> float:
    """CPU seconds for a clip, in the mode that the run has found."""
    from indexer.execute.workers import ModelWorker
    from indexer.infer.weights import resolve_weights

    settings = load_job(job)
    worker = ModelWorker(settings.model, settings.sampling, resolve_weights(settings.model), None)
    geometry = worker.load().geometry
    batch = worker.prepare().batch_clips
    shape = (batch, geometry.frames, *geometry.crop, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    worker.predict([(0, batch)], frames)
    began = time.process_time()
    for _ in range(batches):
        worker.predict([(0, batch)], frames)
    return (time.process_time() - began) / (batches * batch)


def run(job: Path, *options: str) -> dict[str, Any]:
    """Wall seconds, from Enter and from `run_started` on, and what the run itself says of its stages."""
    command = [sys.executable, "-m", "indexer", "run", str(job), "--json", *options]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        started, last = 0.0, {}
        for line in process.stdout:
            last = json.loads(line)
            if last["event"] == "run_started":
                started = time.monotonic()
    ended = time.monotonic()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "wall_seconds": round(ended - began, 1),
        "after_start_seconds": round(ended - started, 1),
        "stage_seconds": last["stages"],
        "segments": last["segments"],
    }


def main() -> dict[str, object]:
    seconds = int(os.environ.get("INDEXER_BENCH_SECONDS", "1800"))
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "videos" / "0.mp4"
        write_video(first, [Block("stripes sliding", 0, VIDEO_SECONDS)], seed=0, width=1280, height=720)
        job = folder / "job.yaml"
        job.write_text(JOB.replace("OUT", "index-mode"))
        run(job, "--limit", "1")  # measures the mode, which later runs remember
        for number in range(1, seconds // VIDEO_SECONDS):
            first.with_name(f"{number}.mp4").write_bytes(first.read_bytes())
        job.write_text(JOB.replace("OUT", "index"))
        decode_seconds = sum(decode_only(first) for _ in range(3)) / 3 * seconds / VIDEO_SECONDS
        model_seconds = model_only(job, 10) * seconds / 2
        taken = run(job)
    floor = (decode_seconds + model_seconds) / cores
    return {
        "video_seconds": seconds,
        "decode_only_cpu_seconds": round(decode_seconds, 1),
        "model_only_cpu_seconds": round(model_seconds, 1),
        "floor_seconds": round(floor, 1),
        "run": taken,
        "times_the_floor": round(taken["wall_seconds"] / floor, 2),
        "times_the_floor_after_start": round(taken["after_start_seconds"] / floor, 2),
    }
