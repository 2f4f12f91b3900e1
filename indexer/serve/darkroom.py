"""Where the page has its pictures made: a process of its own, as videos are hostile. It may crash, hang, or ask for too much.

    page  --order: which video, what of it-->  python -m indexer.serve.darkroom  --picture, or why there is none-->  page

One that does not answer in time is killed, and the next order gets a new one. Orders and answers are JSON, pictures bytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from indexer.errors import (
    VIDEO_ERRORS,
    Corrupt,
    DecoderCrash,
    DecodeTimeout,
    OutOfMemory,
    SourceError,
    StopRun,
    VideoError,
    VideoSkip,
)
from indexer.records import Video
from indexer.serve.media import check_object, path_inside
from indexer.storage.address import is_s3
from indexer.storage.fetch import VideoFile, video_file

MEMORY_BYTES = 2 << 30
"""More than a decoder needs for 8K, less than a machine has."""


class Darkroom:
    """One process, started with its first order. Not for two threads at once."""

    def __init__(self, source: str, *, max_pixels: int, timeout_seconds: float) -> None:
        self._settings = {"source": source, "max_pixels": max_pixels}
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection[bytes, bytes] | None = None
        self._at_work = threading.Lock()

    def picture(self, video: Video, owner: str, seconds: float, *, width: int) -> bytes:
        """The JPEG of `decode.frames.jpeg_at`. Raises VideoError, VideoSkip, StopRun."""
        return self._order(video, owner, make="picture", seconds=seconds, width=width)

    def copy(self, video: Video, owner: str, start_seconds: float, end_seconds: float, *, height: int, target: Path) -> None:
        """Writes the MP4 of `decode.frames.small_copy`. Raises VideoError, VideoSkip, StopRun."""
        self._order(
            video,
            owner,
            make="copy",
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            height=height,
            target=os.fspath(target),
        )

    def close(self) -> None:
        """From any thread: what is being made ends, too, as DecoderCrash."""
        if (process := self._process) is not None:
            process.kill()
        with self._at_work:
            self._end()

    def _order(self, video: Video, owner: str, **what: Any) -> bytes:
        named = [video.uri, video.fingerprint, video.size_bytes, video.modified_at]
        order = json.dumps(self._settings | {"video": named, "owner": owner} | what).encode()
        with self._at_work:
            answer, made = self._sent(order)
        if "code" in answer:
            raise VIDEO_ERRORS[answer["code"]](answer["message"])
        if "skip" in answer:
            raise VideoSkip(answer["skip"])
        if "stop" in answer:
            raise SourceError(answer["stop"])
        return made

    def _sent(self, order: bytes) -> tuple[dict[str, str], bytes]:
        line = self._line or self._open()
        try:
            line.send_bytes(order)
            if not line.poll(self._timeout_seconds):
                self._end()
                raise DecodeTimeout(f"gave no picture for {self._timeout_seconds:g} s (decode.timeout)")
            return json.loads(line.recv_bytes()), line.recv_bytes()
        except (EOFError, ConnectionError) as error:
            self._end()
            raise DecoderCrash("the process that decoded it died") from error

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._line is not None:
            self._line.close()
        self._process = self._line = None

    def _open(self) -> Connection[bytes, bytes]:
        self._line, theirs = Pipe()
        # A session of its own: Ctrl-C is for the page, which then ends this process, too.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "indexer.serve.darkroom", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        return self._line


class Darkrooms:
    """One for each thread that asks."""

    def __init__(self, source: str, *, max_pixels: int, timeout_seconds: float) -> None:
        self._settings: dict[str, Any] = {"source": source, "max_pixels": max_pixels, "timeout_seconds": timeout_seconds}
        self._own = threading.local()
        self._all: list[Darkroom] = []

    def get(self) -> Darkroom:
        """That of this thread."""
        if not hasattr(self._own, "room"):
            self._own.room = Darkroom(**self._settings)
            self._all.append(self._own.room)
        room: Darkroom = self._own.room
        return room

    def close(self) -> None:
        """Also what is being made."""
        for room in self._all:
            room.close()


@contextmanager
def opened(source: str, video: Video, owner: str) -> Iterator[str | VideoFile]:
    """The bytes of a video for a decoder. Raises what `video_file` and `path_inside` raise."""
    if is_s3(video.uri):
        check_object(source, video.uri, owner=owner)
        with video_file(video) as (_, file):
            yield file
    else:
        with path_inside(source, video.uri, owner=owner) as path:
            yield path


def _make(order: dict[str, Any]) -> bytes:
    from indexer.decode.frames import jpeg_at, small_copy

    max_pixels = order["max_pixels"]
    with opened(order["source"], Video(*order["video"]), order["owner"]) as file:
        if order["make"] == "picture":
            return jpeg_at(file, order["seconds"], width=order["width"], max_pixels=max_pixels)
        span = order["start_seconds"], order["end_seconds"]
        small_copy(file, Path(order["target"]), *span, height=order["height"], max_pixels=max_pixels)
        return b""


def _answer(order: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    try:
        return {}, _make(order)
    except VideoError as error:
        return {"code": error.code, "message": str(error)}, b""
    except VideoSkip as skip:
        return {"skip": skip.reason}, b""
    except StopRun as error:
        return {"stop": str(error)}, b""
    except MemoryError:
        return {"code": OutOfMemory.code, "message": "decoding it took more memory than there is"}, b""
    except Exception as error:  # noqa: BLE001  whatever else a broken file provokes costs this picture only, and says so
        return {"code": Corrupt.code, "message": f"the decoder failed on it: {type(error).__name__}: {error}"}, b""


def main(line: Connection[bytes, bytes]) -> None:
    """Make what is ordered, until nobody listens any more."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with line:
        while True:
            try:
                answer, made = _answer(json.loads(line.recv_bytes()))
                line.send_bytes(json.dumps(answer).encode())
                line.send_bytes(made)
            except (EOFError, ConnectionError):
                return


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
