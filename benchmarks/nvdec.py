"""Decoding for the model on a GPU (`decode.backend: nvdec`) against decoding on the CPU (`auto`): needs PyAV and torchcodec.

    python -m benchmarks.nvdec [FOLDER]          720p.mp4 and 1080p.mp4 are kept there, and taken from there if they are there

Dense clips of r3d_18, 15 frames a second, out of one H.264 file at 30: seconds of video for each second, and CPU seconds for
each minute of video, with so many processes at once. Each reads the whole file; starting it is not counted.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from demo.archive import Block, write_video
from indexer.decode.keyframes import read_key_frames
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import open_video
from indexer.decode.readers import open_reader
from indexer.decode.readers.nvdec import NvdecReader, why_unusable
from indexer.records import ClipGeometry

VIDEO_SECONDS = 20
GEOMETRY = ClipGeometry(16, 15, (128, 171), (112, 112))
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
PROCESSES = {"auto": (1, os.cpu_count() or 1), "nvdec": (1, 4, 12)}


def read(backend: str, path: Path) -> tuple[float, float]:
    """Wall and CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    video = open_video(str(path), max_pixels=36_000_000)
    reader = open_reader(backend, video, read_key_frames(video), Sampler(GEOMETRY))
    shown = sum(picture is not None for picture in reader.pictures(k / GEOMETRY.fps for k in range(15 * VIDEO_SECONDS)))
    taken = time.perf_counter() - began, time.process_time() - cpu
    assert isinstance(reader, NvdecReader) == (backend == "nvdec"), "the file was refused"
    assert (shown, reader.warnings) == (15 * VIDEO_SECONDS, ()), "its place was lost"
    video.close()
    return taken


def warm(seconds: float) -> str | None:
    """Busy so long that every process of the pool gets one."""
    time.sleep(seconds)
    return why_unusable("cuda")


def speed(pool: Executor, backend: str, path: Path, processes: int) -> dict[str, float]:
    taken = list(pool.map(read, [backend] * processes, [path] * processes))
    slowest = max(seconds for seconds, _ in taken)
    return {
        "video_seconds_per_second": round(processes * VIDEO_SECONDS / slowest, 1),
        "cpu_seconds_per_minute_of_video": round(60 * sum(cpu for _, cpu in taken) / processes / VIDEO_SECONDS, 2),
    }


def main(folder: Path | None = None) -> dict[str, object]:
    """Nothing where NVDEC cannot be used."""
    if reason := why_unusable("cuda"):
        print(f"{reason}: nothing is measured")
        return {}
    import torch
    import torchcodec

    figures: dict[str, object] = {"device": torch.cuda.get_device_name(), "torchcodec": torchcodec.__version__}
    figures["video_seconds"] = VIDEO_SECONDS
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder or Path(scratch)
        for size, (width, height) in SIZES.items():
            if (path := folder / f"{size}.mp4").exists():
                continue
            blocks = [Block("wheel spinning", 0, VIDEO_SECONDS // 2), Block("snow falling", VIDEO_SECONDS // 2, VIDEO_SECONDS)]
            write_video(path, blocks, seed=3, width=width, height=height)
        for backend, counts in PROCESSES.items():
            spawn = multiprocessing.get_context("spawn")  # a process that has seen a GPU cannot be forked
            with ProcessPoolExecutor(max(counts), spawn) as pool:
                list(pool.map(warm, [2.0] * max(counts)))
                for size in SIZES:
                    for processes in counts:
                        found = speed(pool, backend, folder / f"{size}.mp4", processes)
                        figures[f"{size}, {backend}, {processes} processes"] = found
                        print(size, backend, processes, found, flush=True)
    return figures


if __name__ == "__main__":
    import sys

    from benchmarks.keeping import RESULTS, keep

    if found := main(*map(Path, sys.argv[1:2])):
        keep("nvdec", found, RESULTS / "nvdec.json")
