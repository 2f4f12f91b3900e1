"""What a command costs before it does anything: wall seconds from Enter, medians.

`indexer --help`; a run of which nothing is new (no Ray, no model); and, of a run with work, the time until the model has
answered its first clips: interpreter, listing, Ray, torch, weights and decoding included. r3d_18, 640x360.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo.archive import Block, write_video

TIMES = 5
GOALS = {"help_seconds": 0.3, "run_without_work_seconds": 2.0, "first_answer_seconds": 8.0}
JOB = """
name: startup
source: {{uri: videos, min_age: 0s}}
model: {{name: r3d_18, weights: random}}
sampling: {{segment: 2s}}
output: {{uri: {out}}}
"""


def timed(*words: str) -> tuple[float, str]:
    """Wall seconds of `indexer ...`, and what it says last."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "indexer", *words], capture_output=True, text=True, check=True)
    return time.monotonic() - began, done.stdout.rstrip().rpartition("\n")[2]


def first_answer(job: Path) -> float:
    """Of a first run: its own clock begins a little after Enter, and ends where the command does."""
    taken, last = timed("run", str(job), "--json")
    report = json.loads(last)
    return taken - report["wall_seconds"] + report["startup_seconds"]


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "videos" / "0.mp4", [Block("stripes sliding", 0, 20)], seed=0, width=640, height=360)
        jobs = [folder / f"{number}.yaml" for number in range(TIMES + 1)]
        for job in jobs:
            job.write_text(JOB.format(out=f"index-{job.stem}"))
        timed("run", str(jobs[0]), "--json")  # measures how the model runs, which later runs remember
        first = [first_answer(job) for job in jobs[1:]]
        idle = [timed("run", str(jobs[0]), "--json")[0] for _ in range(TIMES)]
        helped = [timed("--help")[0] for _ in range(TIMES)]
    measured = {"help_seconds": helped, "run_without_work_seconds": idle, "first_answer_seconds": first}
    medians = {key: round(statistics.median(values), 2) for key, values in measured.items()}
    return {"times": TIMES, **medians, "goals": GOALS}
