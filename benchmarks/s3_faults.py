"""S3 with 30 % of all requests failing: is the index of 2,000 videos that of an undisturbed run, and how many bytes are
fetched for nothing? And how much of a large object is fetched when only some seconds of it are looked at?

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
from tests.archives import Customised, last_event
from tests.s3 import Cut, Fault, FaultProxy, Request, Reset, Slow, Status, environment, running_server
from tests.videos import write_video

VIDEOS, KINDS, FAULTY_SHARE = 2_000, 10, 0.3
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


def put_videos(client: Any, folder: Path) -> None:
    """Many videos of a second and about 100 kB, of some kinds."""
    grain = np.random.default_rng(5).integers(0, 256, (40, 240, 320, 3), dtype=np.uint8) // 8 + 100
    contents = []
    for kind in range(KINDS):
        path = folder / f"{kind}.mp4"
        pictures = (grain + np.uint8(5 * kind)).astype(np.uint8)
        write_video(
            path,
            frames=25,
            picture=lambda n, pictures=pictures: pictures[n],
            options={"b": "800k", "maxrate": "800k", "bufsize": "400k"},
        )
        contents.append(path.read_bytes())

    def put(number: int) -> None:
        client.put_object(Bucket="bench", Key=f"masters/{number:04}.mp4", Body=contents[number % KINDS])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(VIDEOS)))


def whole_run(folder: Path, proxy: FaultProxy) -> tuple[list[Any], dict[str, Any]]:
    """What the index says, and the figures, of one `indexer run` on Ray with a model that takes no time."""
    archive = Customised(folder)
    archive.settings["source"]["uri"] = "s3://bench/masters/"
    before, requests_before, began = proxy.body_bytes, len(proxy.requests), time.monotonic()
    ended = archive.run_with("model_is_quick")
    event = last_event(ended)
    assert event["event"] == "run_finished", ended.stderr
    figures = {
        "exit_code": ended.returncode,
        "indexed": event["videos"]["indexed"],
        "requests": len(proxy.requests) - requests_before,
        "sent_bytes": proxy.body_bytes - before,
        "needed_bytes": event["fetched_of_bytes"],
        "seconds": round(time.monotonic() - began, 1),
    }
    return archive.dump(), figures


def faults(client: Any, proxy: FaultProxy, folder: Path) -> dict[str, object]:
    put_videos(client, folder)
    proxy.reset()
    expected, undisturbed = whole_run(folder / "undisturbed", proxy)
    tries: Counter[str] = Counter()
    proxy.plan = lambda request: planned(request, tries)
    rows, disturbed = whole_run(folder / "disturbed", proxy)
    return {
        "videos": VIDEOS,
        "faulty_share_of_requests": FAULTY_SHARE,
        "same_index": rows == expected,
        "wasted_share_of_bytes": round(disturbed["sent_bytes"] / disturbed["needed_bytes"] - 1, 4),
        "undisturbed": undisturbed,
        "disturbed": disturbed,
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
        figures = faults(client, proxy, Path(folder))
        proxy.reset()
        return figures | sparse(client, Path(folder))
