"""What it costs to turn decoded 720p pictures into model pixels, against decoding them: the goal is below 40 %.

CPU seconds of one thread. Every frame is decoded; of 30 a second as many are converted as the model asks for: 15 or 7.5.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import av

from demo.archive import Block, write_video
from indexer.decode.preprocess import Sampler
from indexer.records import ClipGeometry

ROUNDS = 5
VIDEO_FPS = 30
GEOMETRIES = {
    "r3d_18, 112 x 112": ClipGeometry(16, 15, (128, 171), (112, 112)),
    "mvit_v2_s, 224 x 224": ClipGeometry(16, 7.5, (256,), (224, 224)),
}


def decode(path: Path, sampler: Sampler | None, step: int = 1) -> float:
    began = time.process_time()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if sampler is not None and number % step == 0:
                sampler.from_frame(frame)
    return time.process_time() - began


def main() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "720p.mp4"
        blocks = [Block("wheel spinning", 0, 12), Block("snow falling", 12, 24)]
        write_video(path, blocks, seed=3, width=1280, height=720)
        figures: dict[str, object] = {"video_seconds": 24, "rounds": ROUNDS}
        for name, geometry in GEOMETRIES.items():
            plain, converted = [], []
            for _ in range(ROUNDS):
                plain.append(decode(path, None))
                converted.append(decode(path, Sampler(geometry), round(VIDEO_FPS / geometry.fps)))
            base = statistics.median(plain)
            figures[name] = {
                "decode_cpu_seconds": round(base, 3),
                "decode_and_convert_cpu_seconds": round(statistics.median(converted), 3),
                "conversion_share_of_decoding": round(statistics.median(converted) / base - 1, 3),
            }
    return figures
