"""What all contenders share: which frames a clip has, the network, and the rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torchvision.models.video import R3D_18_Weights, r3d_18

FRAMES, CLIP_FPS = 16, 15


def wanted_frames(segment_seconds: float, video_fps: int) -> list[int]:
    """Numbers of the frames of a clip, within its segment."""
    start = segment_seconds / 2 - FRAMES / CLIP_FPS / 2
    return [int((start + k / CLIP_FPS) * video_fps + 1e-6) for k in range(FRAMES)]


class Network:
    """r3d_18 with the documentation's own preprocessing."""

    def __init__(self, weights: str, *, bf16: bool = False) -> None:
        self.model = r3d_18()
        self.model.load_state_dict(torch.load(weights, weights_only=True))
        self.model.eval()
        self.preprocess = R3D_18_Weights.KINETICS400_V1.transforms()
        self.labels = R3D_18_Weights.KINETICS400_V1.meta["categories"]
        self.bf16 = bf16
        self.model.fc.register_forward_pre_hook(self._note)

    def _note(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.embedding = inputs[0].float()

    def rows(self, places: list[tuple[str, int]], clips: torch.Tensor) -> list[dict[str, Any]]:
        """`clips`: preprocessed, [n, 3, T, H, W]; `places`: uri and start_ms of each."""
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            scores, best = self.model(clips).float().softmax(1).topk(5)
        return [
            {
                "uri": uri,
                "start_ms": start_ms,
                "labels": [self.labels[k] for k in best[n].tolist()],
                "scores": scores[n].tolist(),
                "embedding": self.embedding[n].tolist(),
            }
            for n, (uri, start_ms) in enumerate(places)
        ]


class Gathering:
    """Frames one by one, in any order between videos, to rows, one clip at a time: for engines whose row is a frame."""

    def __init__(self, weights: str, segment_seconds: float, video_fps: int) -> None:
        self.network = Network(weights)
        self.segment_seconds = segment_seconds
        self.segment_frames = round(segment_seconds * video_fps)
        self.wanted = set(wanted_frames(segment_seconds, video_fps))
        self.open: dict[tuple[str, int], list[torch.Tensor]] = {}

    def add(self, uri: str, number: int, frame: Any) -> list[dict[str, Any]]:
        segment, place = divmod(number, self.segment_frames)
        if place not in self.wanted:
            return []
        frames = self.open.setdefault((uri, segment), [])
        frames.append(torch.from_numpy(frame.copy()).permute(2, 0, 1))
        if len(frames) < FRAMES:
            return []
        clip = self.network.preprocess(torch.stack(self.open.pop((uri, segment))))
        return self.network.rows([(uri, round(segment * self.segment_seconds * 1000))], clip[None])


def write(rows: Iterable[dict[str, Any]], out: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
