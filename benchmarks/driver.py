"""What the one driver process costs: its CPU time for each small video and for each pack, and its memory.

Decoding and the model are stand-ins that take no time, so that the driver is what everything waits for.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tests.archives import Customised

STANDIN = "nothing_takes_time"
SMALL_VIDEOS, PACKS = 20_000, 5_000


def measure(videos: int, packs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Customised(Path(folder))
        for number in range(videos):
            (archive.videos / f"v{number}-{packs}.mp4").write_bytes(b"0")
        began = time.monotonic()
        ended = archive.run_with(STANDIN, sampling={"segment": "1s", "frames": 4})
        wall = time.monotonic() - began
        assert ended.returncode == 0, ended.stderr
        cpu, memory = (archive.folder / "memory" / STANDIN / "driver").read_text().split()
        stages = json.loads(ended.stdout.splitlines()[-1])["stages"]
    return {"wall_seconds": wall, "driver_cpu_seconds": float(cpu), "driver_bytes": float(memory), "commit": stages["commit"]}


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
        "driver_MB_start_and_small_and_packs": [round(run["driver_bytes"] / 1e6) for run in (start, small, packs)],
        "wall_seconds_small_videos": round(small["wall_seconds"], 1),
        "commit_seconds_small_videos": round(small["commit"], 1),
    }
