"""One clip of 16 frames at 15 fps per 10-second segment: what skipping the rest saves, against decoding everything.

CPU seconds of one thread, conversion included in the sampled ways and left out of `everything`. Key frames every 2 s. The
hour is the 720p video many times over, the packets copied.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av

from demo.archive import Block, write_video
from indexer.decode.video import DecodeSettings, decode_video
from indexer.records import ClipGeometry, Video

ROUNDS = 5
R3D_18 = ClipGeometry(16, 15, (128, 171), (112, 112))
UNIFORM_GOAL, KEYFRAME_GOAL = 3.8, 7.5


def everything(path: Path) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def sampled(path: Path, placement: str) -> None:
    settings = DecodeSettings(R3D_18, 10.0, 1, placement, "pyav", 36_000_000, 0.5, 1e9)
    for _ in decode_video(Video(str(path), "", path.stat().st_size, 0.0), str(path), settings):
        pass


def repeated(path: Path, times: int, out: Path) -> Path:
    with av.open(str(out), "w") as target:
        written = None
        for number in range(times):
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                written = written or target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        shift = number * (stream.duration or 0)
                        packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
                        packet.stream = written
                        target.mux(packet)
    return out


def cpu_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(path: Path, rounds: int) -> dict[str, object]:
    ways: dict[str, Callable[[], None]] = {
        "everything": lambda: everything(path),
        "uniform": lambda: sampled(path, "uniform"),
        "keyframe": lambda: sampled(path, "keyframe"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(cpu_seconds(way))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "cpu_seconds": {name: round(value, 3) for name, value in medians.items()},
        "times_faster": {name: round(medians["everything"] / medians[name], 2) for name in ("uniform", "keyframe")},
    }


def main() -> dict[str, object]:
    blocks = [Block("wheel spinning", 0, 24), Block("snow falling", 24, 50)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "720p.mp4", blocks, seed=3, width=1280, height=720)
        write_video(folder / "2160p.mp4", [Block("wheel spinning", 0, 20)], seed=3, width=3840, height=2160)
        return {
            "rounds": ROUNDS,
            "goal_times_faster": {"uniform": UNIFORM_GOAL, "keyframe": KEYFRAME_GOAL},
            "720p, 50 s": compare(folder / "720p.mp4", ROUNDS),
            "720p, 1 h": compare(repeated(folder / "720p.mp4", 72, folder / "hour.mp4"), 1),
            "2160p, 20 s": compare(folder / "2160p.mp4", 3),
        }
