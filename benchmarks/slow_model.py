"""500 videos through a slow model and a small object store: what Ray writes to disk, and how the driver's memory goes.

A stand-in for the model takes its time, so decoding is always ahead of it; the pixels are several times what the store holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.driver import every_tenth, resident_bytes, slope
from tests.archives import Customised

STANDIN = "model_is_slow"
VIDEOS, STORE = 500, "256M"


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Customised(Path(folder))
        first = archive.add("v0.mp4")
        for number in range(1, VIDEOS):
            (archive.videos / f"v{number}.mp4").write_bytes(first.read_bytes())
        job = str(archive.write_job(sampling={"segment": "400ms"}, ray={"object_store": STORE}))
        began = time.monotonic()
        run = subprocess.Popen(
            [sys.executable, "-m", "indexer", "run", job, "--json"],
            env=os.environ | archive.environment(STANDIN), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert run.stdout is not None
        memory: list[tuple[int, float]] = []
        for line in run.stdout:
            event = json.loads(line)
            if event["event"] == "progress":
                memory.append((event["done"], resident_bytes(run.pid)))
        wall = time.monotonic() - began
        assert run.wait() == 0
        spilled = (archive.folder / "memory" / STANDIN / "spilled").read_text()
    return {
        "videos": VIDEOS,
        "object_store": STORE,
        "clips": event["clips"],
        "wall_seconds": round(wall, 1),
        "spilled": len(spilled.splitlines()),
        "driver_MB_by_videos_done": [(done, round(size / 1e6)) for done, size in every_tenth(memory)],
        "driver_bytes_for_one_more_video": round(slope(memory)),
    }
