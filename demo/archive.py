"""A small archive of synthetic actions, and the schedule that says what is really in it.

archive/
├── videos/           the source of the demo job
│   ├── home/match_01.mp4, match_03.mp4, ...
│   └── away/match_02.mp4, match_04.mp4, ...
└── schedule.json     seed, and per video the blocks of its timeline; outside of the videos: nobody lists it by mistake
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from demo import actions
from demo.actions import ACTIONS, Frame

SEGMENT_SECONDS = 2
"""`sampling.segment` of jobs/demo.yaml. Blocks are multiples of it, so that no segment shows two actions."""

FIRST_BLOCK_SEED = 1_000_000
"""Seeds of actions from here on are the archive's. The checkpoint is fitted on seeds below: all of the archive is unseen."""


@dataclass(frozen=True, slots=True)
class Block:
    """[start, end) of a video, in seconds, in which one action is shown."""

    action: str
    start_seconds: int
    end_seconds: int


def schedule(seed: int, *, num_segments: int = 20, shortest: int = 2, longest: int = 6) -> list[Block]:
    """The timeline of one video of `num_segments` segments: blocks that follow each other without a gap, never twice the same
    action in a row. A block is `shortest` to `longest` segments long; the last one may be shorter."""
    rng = np.random.default_rng(seed)
    blocks: list[Block] = []
    start = 0
    while start < num_segments:
        others = [action for action in ACTIONS if not blocks or action != blocks[-1].action]
        end = min(start + int(rng.integers(shortest, longest + 1)), num_segments)
        blocks.append(Block(others[rng.integers(len(others))], start * SEGMENT_SECONDS, end * SEGMENT_SECONDS))
        start = end
    return blocks


def write_video(path: Path, blocks: list[Block], *, seed: int, width: int = 320, height: int = 240, fps: int = 30) -> None:
    """Draw the blocks into one MP4 file. The same arguments give the same bytes; the file appears whole or not at all."""
    performances = (
        actions.frames(
            block.action,
            seed=FIRST_BLOCK_SEED * (1 + seed) + number,
            num_frames=(block.end_seconds - block.start_seconds) * fps,
            width=width,
            height=height,
            fps=fps,
        )
        for number, block in enumerate(blocks)
    )
    write_atomically(path, encode((frame for frames in performances for frame in frames), fps=fps))


def make_archive(folder: Path, *, videos: int = 6, seed: int = 0) -> dict[str, list[Block]]:
    """Fill `folder` with videos of 24 to 36 seconds, and write schedule.json beside it. Returns the timeline of
    each relative path.

    Videos that an earlier call made from the same seed are left alone: a second run of the job finds nothing new.
    """
    timelines: dict[str, list[Block]] = {}
    for number in range(videos):
        video_seed = seed * 1000 + number
        num_segments = int(np.random.default_rng((seed, number)).integers(12, 19))
        timelines[f"{('home', 'away')[number % 2]}/match_{number + 1:02}.mp4"] = schedule(
            video_seed, num_segments=num_segments
        )
    truth = json.dumps(
        {
            "seed": seed,
            "drawn_by": drawing_version(),
            "videos": {name: [asdict(block) for block in blocks] for name, blocks in timelines.items()},
        },
        indent=2,
    )
    record = folder.parent / "schedule.json"
    is_same = record.exists() and record.read_text(encoding="utf-8") == truth
    if not is_same:
        record.unlink(missing_ok=True)  # from here until the end nothing vouches for what is in the folder
    for number, (name, blocks) in enumerate(timelines.items()):
        if not (is_same and (folder / name).exists()):
            write_video(folder / name, blocks, seed=seed * 1000 + number)
    write_atomically(record, truth.encode())
    return timelines


def encode(frames: Iterable[Frame], *, fps: int) -> bytes:
    """An MP4 file of H.264, yuv420p, with a key frame every two seconds. The same frames and FFmpeg give the same bytes."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.options = {
            "preset": "veryfast",
            "crf": "23",
            "threads": "1",
            # cpu-independent: without it the choice of SIMD code may change the bytes from machine to machine.
            "x264-params": f"cpu-independent=1:threads=1:keyint={2 * fps}:min-keyint={2 * fps}:scenecut=0",
        }
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def drawing_version() -> str:
    """Changes whenever the code that draws or encodes does: what was made by other code is made anew."""
    sources = Path(actions.__file__).read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(sources).hexdigest()[:16]


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, whole. The unfinished one has no video's suffix: no listing takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
