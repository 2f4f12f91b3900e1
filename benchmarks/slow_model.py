"""500 videos through a slow model and a small object store: what Ray writes to disk, and how the driver's memory goes.

A stand-in for the model takes its time, so decoding is always ahead of it; the pixels are several times what the store holds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.driver import every_tenth, slope, watch
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
        event, memory, wall = watch(archive, job, STANDIN)
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
