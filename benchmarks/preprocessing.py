"""What it costs to turn decoded pictures into model pixels, against decoding them.

CPU seconds of one thread, clips without a gap between them: of 30 frames a second as many are converted as the model asks for,
15 or 7.5. Once with every frame decoded, and once as the reader does it, which leaves out what nothing needs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import av

from demo.archive import Block, write_video
from indexer.decode.keyframes import read_key_frames
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import open_video
from indexer.decode.readers import open_reader
from indexer.records import ClipGeometry

ROUNDS = 5
VIDEO_FPS = 30
VIDEO_SECONDS = 24
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


def read(path: Path, geometry: ClipGeometry) -> float:
    began = time.process_time()
    video = open_video(str(path), max_pixels=36_000_000)
    reader = open_reader("auto", video, read_key_frames(video), Sampler(geometry, aspect=video.aspect))
    for _ in reader.pictures(number / geometry.fps for number in range(round(VIDEO_SECONDS * geometry.fps))):
        pass
    video.close()
    return time.process_time() - began


SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}


def main() -> dict[str, object]:
    figures: dict[str, object] = {"video_seconds": VIDEO_SECONDS, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder:
        for size, (width, height) in SIZES.items():
            path = Path(folder) / f"{size}.mp4"
            half = VIDEO_SECONDS // 2
            blocks = [Block("wheel spinning", 0, half), Block("snow falling", half, VIDEO_SECONDS)]
            write_video(path, blocks, seed=3, width=width, height=height)
            for name, geometry in GEOMETRIES.items():
                figures[f"{size}, {name}"] = compare(path, geometry)
    return figures


def compare(path: Path, geometry: ClipGeometry) -> dict[str, float]:
    """CPU seconds, medians of turns."""
    plain, converted, through_reader = [], [], []
    for _ in range(ROUNDS):
        plain.append(decode(path, None))
        converted.append(decode(path, Sampler(geometry), round(VIDEO_FPS / geometry.fps)))
        through_reader.append(read(path, geometry))
    base, both, reader = (statistics.median(taken) for taken in (plain, converted, through_reader))
    return {
        "decode_cpu_seconds": round(base, 3),
        "decode_and_convert_cpu_seconds": round(both, 3),
        "reader_cpu_seconds": round(reader, 3),
        "times_decoding": round(both / base, 3),
        "reader_times_decoding": round(reader / base, 3),
    }
