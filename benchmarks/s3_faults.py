"""S3 with 30 % of all requests failing: are the bytes right, and how many are fetched for nothing? And how much of a large
object is fetched when only some seconds of it are looked at?

The storage is a real S3 server on this machine, behind a proxy that fails: nothing here says how fast a network is.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np

from indexer.records import Video
from indexer.storage.fetch import VideoFile, video_file
from tests.s3 import Cut, Fault, FaultProxy, Request, Reset, Slow, Status, environment, running_server

OBJECTS, FAULTY_SHARE = 2_000, 0.3
SMALLEST_BYTES, LARGEST_BYTES = 50_000, 1_500_000
FAULTS: tuple[Fault, ...] = (
    Status(503, "SlowDown"),
    Status(500, "InternalError"),
    Reset(),
    Cut(0.7),
    Cut(0.7, reset=True),
    Slow(65_536, 0.05),
)
MINUTES, LOOK_SECONDS = 2, 2.1
"""Of the large video; and of what a model sees of one segment."""


def planned(request: Request, tries: Counter[str]) -> Fault | None:
    tries[request.key] += 1
    dice = random.Random(f"{request.key} {tries[request.key]}")
    return dice.choice(FAULTS) if dice.random() < FAULTY_SHARE else None


def faults(client: Any, proxy: FaultProxy) -> dict[str, object]:
    sizes = random.Random(0)
    contents = [np.random.default_rng(n).bytes(sizes.randint(SMALLEST_BYTES, LARGEST_BYTES)) for n in range(OBJECTS)]

    def put(number: int) -> Video:
        client.put_object(Bucket="bench", Key=f"{number}.mp4", Body=contents[number])
        md5 = hashlib.md5(contents[number]).hexdigest()
        return Video(f"s3://bench/{number}.mp4", f"{len(contents[number])}-{md5}", len(contents[number]), 0.0)

    def right(number: int) -> bool:
        with video_file(videos[number]) as (_, file), file.open() as stream:
            return stream.read() == contents[number]

    with ThreadPoolExecutor(8) as pool:
        videos = list(pool.map(put, range(OBJECTS)))
        proxy.reset()
        tries: Counter[str] = Counter()
        proxy.plan = lambda request: planned(request, tries)
        began = time.monotonic()
        correct = sum(pool.map(right, range(OBJECTS)))
        seconds = time.monotonic() - began
    wanted = sum(map(len, contents))
    return {
        "objects": OBJECTS,
        "faulty_share_of_requests": FAULTY_SHARE,
        "read_correctly": correct,
        "requests": len(proxy.requests),
        "bytes": wanted,
        "wasted_share_of_bytes": round(proxy.body_bytes / wanted - 1, 4),
        "seconds": round(seconds, 1),
    }


def write_recording(path: Path) -> None:
    """Grainy pictures, so that it has the bytes of a real recording: about 5 Mbit/s, a key frame every 2 seconds."""
    grain = np.random.default_rng(5).integers(0, 256, (40, 360, 640, 3), dtype=np.uint8) // 8 + 100
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "b": "5M", "maxrate": "5M", "bufsize": "5M"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.gop_size = 50
        for number in range(MINUTES * 60 * 25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grain[number % 40], format="rgb24")))
        container.mux(stream.encode(None))


def sparse(client: Any, folder: Path) -> dict[str, object]:
    shares: dict[str, object] = {}
    for extension in ("mp4", "mkv", "ts"):
        path = folder / f"long.{extension}"
        write_recording(path)
        content = path.read_bytes()
        client.put_object(Bucket="bench", Key=path.name, Body=content)
        video = Video(f"s3://bench/{path.name}", f"{len(content)}-{hashlib.md5(content).hexdigest()}", len(content), 0.0)
        for segment_seconds in (10, 30, 60):
            with video_file(video) as (_, file):
                look(file, segment_seconds)
                share = file.bytes_fetched / len(content)
            shares[f"{extension}, {LOOK_SECONDS} of {segment_seconds} s"] = round(share, 3)
    return {"large_object_bytes": len(content), "share_fetched": shares}


def look(file: VideoFile, segment_seconds: int) -> None:
    """Decode some seconds in the middle of every segment."""
    middles = range(segment_seconds // 2, MINUTES * 60, segment_seconds)
    with file.open() as source, av.open(source) as container:
        stream = container.streams.video[0]
        start = float((stream.start_time or 0) * stream.time_base)
        container.seek(0)  # Matroska reads its index at the first seek only
        places = [(float(entry.timestamp * stream.time_base), entry.pos, entry.is_keyframe) for entry in stream.index_entries]
        if container.format.name != "mpegts":  # which has no index
            file.expect([span(places, middle, middle + LOOK_SECONDS) for middle in middles])
        for middle in middles:
            container.seek(int((start + middle) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time >= start + middle + LOOK_SECONDS:
                    break


def span(places: list[tuple[float, int, bool]], start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """The bytes from the key frame before `start_seconds` to the next frame of the index that is not needed."""
    first = max(pos for seconds, pos, is_key in places if is_key and (seconds <= start_seconds or not seconds))
    return first, min((pos for seconds, pos, _ in places if seconds > end_seconds + 0.2), default=1 << 40)


def main() -> dict[str, object]:
    import boto3.session

    with tempfile.TemporaryDirectory() as folder, running_server() as port:
        proxy = FaultProxy(port)
        os.environ.update(environment(proxy.url), INDEXER_SCRATCH=folder)
        client = boto3.session.Session(region_name="us-east-1").client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        client.create_bucket(Bucket="bench")
        figures = faults(client, proxy)
        proxy.reset()
        return figures | sparse(client, Path(folder))
