"""Whether the price of an hour of video stays the same as an archive grows: 1, 10 and 100 videos, one and two decoders.

Wall seconds of whole `indexer run` commands, start-up and commit included, and the same without the start-up (from the event
`run_started` on): the median of three, but for the longest. Draws docs/cost.svg. Videos of 10 s, 640x360, 2-second segments,
r3d_18.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl

from demo.archive import Block, write_video

mpl.use("svg")
from matplotlib import pyplot as plt

SECONDS = 10
COUNTS = {1: 3, 10: 3, 100: 1}
"""Videos -> how often."""
WORKERS = (1, 2)
PICTURE = Path(__file__).parents[1] / "docs" / "cost.svg"
JOB = """
name: growth
source: {{uri: {videos}, min_age: 0s}}
model: {{name: r3d_18, weights: random}}
sampling: {{segment: 2s}}
output: {{uri: {out}}}
ray: {{decode_cpus: {workers}}}
"""


def run(folder: Path, first: Path, count: int, workers: int) -> dict[str, float]:
    """Seconds for an hour of video. `folder` is not there yet."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for number in range(count):
        (videos / f"{number}.mp4").write_bytes(first.read_bytes())
    job = folder / "job.yaml"
    job.write_text(JOB.format(videos=videos, out=folder / "index", workers=workers))
    began = time.monotonic()
    command = [sys.executable, "-m", "indexer", "run", str(job), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        started = next(time.monotonic() for line in process.stdout if json.loads(line)["event"] == "run_started")
        process.stdout.read()
    ended = time.monotonic()
    hours = count * SECONDS / 3600
    return {"wall": round((ended - began) / hours), "after_start": round((ended - started) / hours)}


def draw(figures: dict[str, dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.5))
    for workers in WORKERS:
        for what, style in (("wall", "o-"), ("after_start", "s--")):
            values = [figures[f"{count} videos, {workers} decoders"][what] for count in COUNTS]
            name = "whole command" if what == "wall" else "without start-up"
            axes.plot(list(COUNTS), values, style, label=f"{workers} decoder{'s' * (workers > 1)}, {name}")
    axes.set(xscale="log", yscale="log", xlabel="videos", ylabel="seconds per hour of video", xticks=list(COUNTS))
    axes.get_xaxis().set_major_formatter(mpl.ticker.ScalarFormatter())
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> dict[str, object]:
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "first.mp4"
        write_video(first, [Block("stripes sliding", 0, SECONDS)], seed=0, width=640, height=360)
        run(folder / "mode", first, 2, 2)  # measures the mode, which later runs remember
        for workers in WORKERS:
            for count, rounds in COUNTS.items():
                name = f"{count} videos, {workers} decoders"
                taken = [run(folder / f"{workers}-{count}-{number}", first, count, workers) for number in range(rounds)]
                figures[name] = {what: statistics.median(one[what] for one in taken) for what in taken[0]}
    draw(figures)
    return {"seconds_per_hour_of_video": figures, "video_seconds": SECONDS}
