"""A whole `indexer run` against the floor: what decoding and the model cost alone, shared by all cores without a gap.

Thirty minutes of 720p H.264, segments of 2 and of 10 seconds, one clip each, r3d_18. The floor is (decode-only CPU seconds:
PyAV, every frame, no conversion, + model-only CPU seconds: the same number of clips from memory, channels_last_3d, batches of
eight, in bf16 where the CPU is quick with it, else in fp32) / cores. What lies between is told apart as far as the run itself
counts it.
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
import torch
from torchvision.models.video import r3d_18

from benchmarks.side_by_side import careful_format
from demo.archive import Block, write_video
from indexer.infer.heap import keep_freed_memory

JOB = """
name: benchmark
source: {{uri: videos, min_age: 0s}}
model: {{name: r3d_18, weights: random}}
sampling: {{segment: {segment}s}}
output: {{uri: {out}}}
"""
WORKLOADS = {"dense": 2, "sparse": 10}
"""Seconds of a segment. Of the sparse one, the run does not decode all that the floor does."""
VIDEO_SECONDS = 60


def decode_only(path: Path) -> float:
    """CPU seconds."""
    began = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - began


def model_only(batches: int, number_format: str) -> float:
    """CPU seconds for a clip: torchvision's network in channels_last_3d, on batches of eight that lie in memory."""
    keep_freed_memory()  # else there would be something below the floor
    network = r3d_18().eval().to(memory_format=torch.channels_last_3d)
    clips = torch.rand(8, 3, 16, 112, 112).to(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=number_format == "bf16"):
        network(clips)
        began = time.process_time()
        for _ in range(batches):
            network(clips)
    return (time.process_time() - began) / (batches * len(clips))


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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "videos" / "0.mp4"
        write_video(first, [Block("stripes sliding", 0, VIDEO_SECONDS)], seed=0, width=1280, height=720)
        job = folder / "job.yaml"
        job.write_text(JOB.format(segment=2, out="index-mode"))
        run(job, "--limit", "1")  # measures the mode, which later runs remember
        for number in range(1, seconds // VIDEO_SECONDS):
            first.with_name(f"{number}.mp4").write_bytes(first.read_bytes())
        decode_seconds = sum(decode_only(first) for _ in range(3)) / 3 * seconds / VIDEO_SECONDS
        floor_format = careful_format()
        clip_seconds = model_only(10, floor_format)
        figures: dict[str, object] = {
            "video_seconds": seconds,
            "floor_format": floor_format,
            "decode_only_cpu_seconds": round(decode_seconds, 1),
        }
        for workload, segment in WORKLOADS.items():
            job.write_text(JOB.format(segment=segment, out=f"index-{segment}"))
            taken = run(job)
            model_seconds = clip_seconds * seconds / segment
            floor = (decode_seconds + model_seconds) / (os.cpu_count() or 1)
            figures[workload] = {
                "model_only_cpu_seconds": round(model_seconds, 1),
                "floor_seconds": round(floor, 1),
                "run": taken,
                "times_the_floor": round(taken["wall_seconds"] / floor, 2),
                "times_the_floor_after_start": round(taken["after_start_seconds"] / floor, 2),
            }
    return figures
