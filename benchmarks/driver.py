"""What the one driver process costs: its CPU time for each small video and for each pack, and its memory.

Decoding and the model are stand-ins that take no time, so that the driver is what everything waits for.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.archives import Customised

STANDIN = "nothing_takes_time"
SMALL_VIDEOS, PACKS = 20_000, 5_000


def measure(videos: int, packs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Customised(Path(folder))
        for number in range(videos):
            (archive.videos / f"v{number}-{packs}.mp4").write_bytes(b"0")
        job = str(archive.write_job(sampling={"segment": "1s", "frames": 4}))
        event, memory, wall = watch(archive, job, STANDIN)
        cpu, most = (archive.folder / "memory" / STANDIN / "driver").read_text().split()
    return {
        "wall_seconds": wall,
        "driver_cpu_seconds": float(cpu),
        "driver_bytes": float(most),
        "commit": event["stages"]["commit"],
        "memory": memory,
    }


def watch(archive: Customised, job: str, standin: str) -> tuple[dict[str, Any], list[tuple[int, float]], float]:
    """The last event of a run, the driver's memory by videos done, and wall seconds."""
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", job, "--json"],
        env=os.environ | archive.environment(standin), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    memory: list[tuple[int, float]] = []
    event: dict[str, Any] = {}
    for line in run.stdout:
        event = json.loads(line)
        if event["event"] == "progress":
            memory.append((event["done"], resident_bytes(run.pid)))
    wall = time.monotonic() - began
    assert run.wait() == 0
    return event, memory, wall


def resident_bytes(pid: int) -> float:
    fields = Path("/proc", str(pid), "statm").read_text().split()
    return float(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(memory: list[tuple[int, float]]) -> float:
    """Bytes for one more video, in the second half of the run: by then all that is loaded once is there."""
    later = memory[len(memory) // 2 :]
    return statistics.linear_regression(*zip(*later, strict=True)).slope if len({done for done, _ in later}) > 1 else 0.0


def every_tenth(memory: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return memory[:: max(1, len(memory) // 10)]


def main() -> dict[str, object]:
    start = measure(20, 1)
    small = measure(SMALL_VIDEOS, 1)
    packs = measure(20, PACKS // 20)
    a_video = (small["driver_cpu_seconds"] - start["driver_cpu_seconds"]) / (SMALL_VIDEOS - 20)
    a_pack = (packs["driver_cpu_seconds"] - start["driver_cpu_seconds"]) / PACKS
    return {
        "small_videos": SMALL_VIDEOS,
        "packs": PACKS,
        "driver_ms_per_small_video": round(1000 * a_video, 3),
        "driver_ms_per_pack": round(1000 * a_pack, 3),
        "hours_of_driver_for_10_million_small_videos": round(10_000_000 * a_video / 3600, 1),
        "driver_MB_by_small_videos_done": [(done, round(size / 1e6)) for done, size in every_tenth(small["memory"])],
        "driver_bytes_for_one_more_small_video": round(slope(small["memory"])),
        "driver_MB_start_and_small_and_packs": [round(run["driver_bytes"] / 1e6) for run in (start, small, packs)],
        "wall_seconds_small_videos": round(small["wall_seconds"], 1),
        "commit_seconds_small_videos": round(small["commit"], 1),
    }
