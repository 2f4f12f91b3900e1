"""Ray Data as its documentation shows it: `read_videos` gives frames, an actor with the model takes them in batches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.peers.clips import CLIP_FPS, Gathering

VIDEO_FPS = 30


class Classify:
    def __init__(self, weights: str, segment_seconds: float) -> None:
        import torch

        torch.set_num_threads(2)  # Ray allows one to an actor that asks for no more cores
        self.gathering = Gathering(weights, segment_seconds, VIDEO_FPS)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {name: [] for name in ("uri", "start_ms", "labels", "scores", "embedding")}
        for uri, number, frame in zip(batch["path"], batch["frame_index"], batch["frame"], strict=True):
            for row in self.gathering.add(uri, int(number), frame):
                for name, value in row.items():
                    columns[name].append(value)
        return columns


def main(videos: str, weights: str, out: str, segment_seconds: str) -> None:
    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    frames = ray.data.read_videos(str(Path(videos)), include_paths=True, fps=CLIP_FPS)
    rows = frames.map_batches(Classify, batch_size=64, concurrency=1, fn_constructor_args=(weights, float(segment_seconds)))
    rows.write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
