"""The recipe of torchvision's documentation: whole RGB frames, `weights.transforms()`, fp32, one clip at a time.

With `bf16` or `fp32` as the last argument, as a careful user writes it: only the wanted frames are converted, batches of 8, in
that format.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import torch

from benchmarks.peers.clips import Network, wanted_frames, write


def segments(path: Path, segment_seconds: float, *, only_wanted: bool) -> Iterator[torch.Tensor]:
    """The clip [16, 3, H, W] of each segment, uint8 RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        fps = round(float(stream.average_rate or 30))
        wanted = wanted_frames(segment_seconds, fps)
        length = round(segment_seconds * fps)
        frames: dict[int, torch.Tensor] = {}
        for number, frame in enumerate(container.decode(stream)):
            place = number % length
            if not only_wanted or place in wanted:
                frames[place] = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            if place == length - 1:
                yield torch.stack([frames[k] for k in wanted])
                frames = {}


def main(videos: str, weights: str, out: str, segment_seconds: str, how: str = "") -> None:
    careful = how != ""
    network = Network(weights, bf16=how == "bf16")
    rows, places, clips = [], [], []
    for path in sorted(Path(videos).glob("*.mp4")):
        for number, clip in enumerate(segments(path, float(segment_seconds), only_wanted=careful)):
            places.append((str(path), round(number * float(segment_seconds) * 1000)))
            clips.append(network.preprocess(clip))
            if len(clips) == (8 if careful else 1):
                rows += network.rows(places, torch.stack(clips))
                places, clips = [], []
    if clips:
        rows += network.rows(places, torch.stack(clips))
    write(rows, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
