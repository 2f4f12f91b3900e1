"""A whole `indexer run`, start-up and commit included, against what its two halves cost alone on all cores.

Five minutes of 720p H.264, 2-second segments, one clip each, r3d_18. decode-only: PyAV, every frame, no conversion, one
process a core. model-only: the same number of clips from memory, in the mode that the run chose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np

from demo.archive import Block, write_video
from indexer.config import load_job

JOB = """
name: benchmark
source: {uri: videos, min_age: 0s}
model: {name: r3d_18, weights: random}
sampling: {segment: 2s}
"""
VIDEOS, SECONDS = 6, 50


def decode_all(path: Path) -> int:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def run(job: Path, *options: str) -> dict[str, object]:
    command = [sys.executable, "-m", "indexer", "run", str(job), "--json", *options]
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    event: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": round(time.monotonic() - began, 2), "stages": event["stages"], "segments": event["segments"]}


def model_only(job: Path, clips: int) -> float:
    from indexer.execute.workers import ModelWorker
    from indexer.infer.weights import resolve_weights

    settings = load_job(job)
    worker = ModelWorker(settings.model, settings.sampling, resolve_weights(settings.model), None)
    spec = worker.load()
    batch = worker.prepare().batch_clips
    geometry = spec.geometry
    shape = (batch, geometry.frames, *geometry.crop, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    worker.predict([(0, batch)], frames)
    began = time.monotonic()
    for _ in range(-(-clips // batch)):
        worker.predict([(0, batch)], frames)
    return time.monotonic() - began


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        for number in range(VIDEOS):
            write_video(videos / f"{number}.mp4", [Block("stripes sliding", 0, SECONDS)], seed=number, width=1280, height=720)
        job = Path(folder) / "job.yaml"
        job.write_text(JOB)
        run(job)  # measures the mode, which later runs remember
        runs = {}
        for name, options in (("ray", ()), ("local", ("--local",))):
            for path in Path(folder, "index").rglob("*"):
                if path.is_file():
                    path.unlink()
            runs[name] = run(job, *options)
        began = time.monotonic()
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            frames = sum(pool.map(decode_all, sorted(videos.iterdir())))
        decode_seconds = time.monotonic() - began
        model_seconds = model_only(job, VIDEOS * SECONDS // 2)
    floor = max(decode_seconds, model_seconds)
    return {
        "video_seconds": VIDEOS * SECONDS,
        "frames": frames,
        "decode_only_seconds": round(decode_seconds, 2),
        "model_only_seconds": round(model_seconds, 2),
        "runs": runs,
        "wall_over_larger_half": {name: round(figures["seconds"] / floor, 2) for name, figures in runs.items()},  # type: ignore[operator]
    }
