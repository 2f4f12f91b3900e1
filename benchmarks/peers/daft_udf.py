"""Daft as its documentation shows it: a class that holds the model, applied to the paths of the files.

`daft.read_video_frames` would be the shorter way, but version 0.7.26 waited for ever where there was more than one local file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import daft
from daft import DataType

from benchmarks.peers.clips import Network
from benchmarks.peers.torchvision_docs import segments

ROW = DataType.struct(
    {
        "uri": DataType.string(),
        "start_ms": DataType.int64(),
        "labels": DataType.list(DataType.string()),
        "scores": DataType.list(DataType.float64()),
        "embedding": DataType.list(DataType.float64()),
    }
)


@daft.cls(max_concurrency=1)
class Classify:
    def __init__(self, weights: str, segment_seconds: float) -> None:
        self.network = Network(weights)
        self.segment_seconds = segment_seconds

    @daft.method(return_dtype=DataType.list(ROW))
    def rows(self, path: str) -> list[dict[str, object]]:
        found = []
        path = path.removeprefix("file://")
        for number, clip in enumerate(segments(Path(path), self.segment_seconds, only_wanted=True)):
            place = (path, round(number * self.segment_seconds * 1000))
            found += self.network.rows([place], self.network.preprocess(clip)[None])
        return found


def main(videos: str, weights: str, out: str, segment_seconds: str) -> None:
    files = daft.from_glob_path(f"{videos}/*.mp4")
    rows = files.select(Classify(weights, float(segment_seconds)).rows(files["path"]).alias("row")).explode("row")
    rows.select(daft.col("row").unnest()).write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
