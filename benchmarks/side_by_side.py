"""`indexer run` beside what the documentation of other tools shows, on the same videos, weights, segments and frames.

Wall seconds of whole commands, start-up included, in turn: the indexer runs before each of the others, and its median counts.
Rows are compared: the same segments, and embeddings within 1 % of the torchvision recipe's (in fp32; with untrained weights a
label would prove nothing). Where bf16 is hopeless, a careful user leaves it. Daft asks for an older pyarrow than we do, so it
has an environment of its own on top of this one.
INDEXER_BENCH_SECONDS: of video, 360 by default. INDEXER_BENCH_WORKLOADS: some of them, separated by commas; of the others the
figures stay as they are.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import torch
from torchvision.models.video import r3d_18

from benchmarks.keeping import path_for
from demo.archive import Block, write_video
from indexer.infer.precision import HOPELESS, bf16_slowdown

RESULT = path_for("side_by_side")
VIDEO_SECONDS = 60
WORKLOADS = {
    "dense 720p": (1280, 720, 2.0, ("torchvision", "torchvision, careful", "Ray Data", "Daft")),
    "dense 360p": (640, 360, 2.0, ("torchvision", "torchvision, careful", "Ray Data", "Daft")),
    "sparse 1080p": (1920, 1080, 10.0, ("torchvision", "torchvision, careful")),
}
GOALS = {
    "dense 720p": {"torchvision": 0.45, "torchvision, careful": 0.6, "Ray Data": 0.3, "Daft": 0.45},
    "dense 360p": {"torchvision": 0.45, "torchvision, careful": 0.6, "Ray Data": 0.3, "Daft": 0.45},
    "sparse 1080p": {"torchvision": 0.25},
}
MODULES = {
    "torchvision": ("torchvision_docs",),
    "torchvision, careful": ("torchvision_docs", "careful"),
    "Ray Data": ("ray_data",),
    "Daft": ("daft_udf",),
}
JOB = """
name: side-by-side
source: {{uri: {videos}, min_age: 0s}}
model: {{name: r3d_18, weights: {weights}}}
sampling: {{segment: {segment}s}}
output: {{uri: {out}}}
"""


def timed(*command: str) -> float:
    began = time.monotonic()
    # One's own memory of measured modes stays; Ray is told not to say how it is used.
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def python_with_daft(folder: Path) -> str:
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "daft==0.7.26"], check=True)
    own = next((folder / "lib").glob("python3*")) / "site-packages"
    (own / "zz_the_rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def index(folder: Path, videos: Path, weights: Path, segment: float, out: Path) -> tuple[float, Path]:
    job = folder / f"{out.name}.yaml"
    job.write_text(JOB.format(videos=videos, weights=weights, segment=segment, out=out))
    return timed(sys.executable, "-m", "indexer", "run", str(job)), out / "parts"


def embeddings(out: Path) -> dict[tuple[str, int], np.ndarray]:
    rows = ds.dataset(out).to_table(columns=["uri", "start_ms", "embedding"]).to_pylist()
    return {(Path(row["uri"]).name, row["start_ms"]): np.array(row["embedding"], np.float64) for row in rows}


def difference(ours: Path, theirs: Path) -> dict[str, object]:
    """Relative, of the embeddings, and how many segments both have."""
    a, b = embeddings(ours), embeddings(theirs)
    if a.keys() != b.keys():
        raise SystemExit(f"{ours} and {theirs} do not have the same segments: {len(a)} and {len(b)}")
    return {"largest": round(max(float(np.linalg.norm(a[k] - b[k]) / np.linalg.norm(b[k])) for k in a), 4), "segments": len(a)}


def workload(folder: Path, name: str, seconds: int, weights: Path, daft: str, careful_format: str) -> dict[str, object]:
    width, height, segment, others = WORKLOADS[name]
    videos = folder / "videos"
    first = videos / "0.mp4"
    blocks = [Block("stripes sliding", 0, 30), Block("wheel spinning", 30, VIDEO_SECONDS)]
    write_video(first, blocks, seed=0, width=width, height=height)
    for number in range(1, seconds // VIDEO_SECONDS):
        first.with_name(f"{number}.mp4").write_bytes(first.read_bytes())  # nobody remembers what it has seen
    taken, agreement, own_seconds = {}, {}, []
    for other in others:
        own, ours = index(folder, videos, weights, segment, folder / f"index-{len(own_seconds)}")
        own_seconds.append(own)
        module, *how = (careful_format if word == "careful" else word for word in MODULES[other])
        out = folder / f"{module}{''.join(how)}.parquet"
        python = daft if other == "Daft" else sys.executable
        program = f"benchmarks.peers.{module}"
        taken[other] = timed(python, "-m", program, str(videos), str(weights), str(out), str(segment), *how)
        agreement[other] = difference(ours, out)
    indexer = statistics.median(own_seconds)
    return {
        "video_seconds": seconds,
        "wall_seconds": {key: round(value, 1) for key, value in {"indexer": indexer, **taken}.items()},
        "indexer_runs": [round(value, 1) for value in own_seconds],
        "indexer_over": {key: round(indexer / value, 2) for key, value in taken.items()},
        "goal": GOALS[name],
        "relative_difference_of_embeddings": agreement,
    }


def careful_format() -> str:
    """In which somebody who knows PyTorch would run r3d_18 on this CPU."""
    return "bf16" if bf16_slowdown(torch.device("cpu"), convolutional=True) <= HOPELESS else "fp32"


def main() -> dict[str, object]:
    seconds = int(os.environ.get("INDEXER_BENCH_SECONDS", "360"))
    names = os.environ.get("INDEXER_BENCH_WORKLOADS", ",".join(WORKLOADS)).split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        torch.save(r3d_18().state_dict(), folder / "r3d_18.pth")
        daft = python_with_daft(folder / "daft")
        before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        careful = careful_format()
        figures: dict[str, object] = {"careful_format": careful}
        figures |= {name: before[name] for name in WORKLOADS if name in before}
        for workload_name in names:
            place = folder / workload_name.replace(" ", "-")
            place.mkdir()
            figures[workload_name] = workload(place, workload_name, seconds, folder / "r3d_18.pth", daft, careful)
            print(workload_name, figures[workload_name], flush=True)
        return figures
