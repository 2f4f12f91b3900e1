"""Pictures and small copies of videos, made when they are asked for, by few workers, and kept for a while.

Decoding costs much more than asking. So there is a limit to how many wait: whoever comes then is told to come back. And what
nobody waits for any more is not begun.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from indexer.errors import VIDEO_ERRORS, OutputError
from indexer.serve.archive import ShownVideo
from indexer.serve.darkroom import Darkrooms
from indexer.storage.copies import copy_name

PICTURE_WIDTH = 384
COPY_HEIGHT = 480
COPY_SECONDS = 60
"""The longest small copy: of a moment, not of a film."""
KEPT_PICTURE_BYTES = 64_000_000
KEPT_COPY_BYTES = 2_000_000_000
_WAITING_PICTURES, _WAITING_COPIES = 200, 8
_LEFT_SECONDS = 86_400
"""After which what is unfinished was left by a page that was killed: no copy is being made for so long."""

Made = TypeVar("Made")


class TooBusy(Exception):
    """As many wait as may wait."""


@dataclass
class _Order(Generic[Made]):
    made: Future[Made]
    waiting: int = 0
    """How many wait for it."""


class Workshop(Generic[Made]):
    """Makes things by their names, each once at a time, however many ask for it."""

    def __init__(self, name: str, *, workers: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._most = workers + waiting
        self._lock = threading.Lock()
        self._orders: dict[str, _Order[Made]] = {}

    async def get(self, key: str, make: Callable[[], Made]) -> Made:
        """Raises TooBusy, and what `make` raises. To be asked in one event loop; whoever cancels waits no longer."""
        with self._lock:
            order = self._orders.get(key)
            fresh = order is None
            if order is None:
                if len(self._orders) >= self._most:
                    raise TooBusy
                order = self._orders[key] = _Order(self._pool.submit(make))
        if fresh:
            order.made.add_done_callback(lambda _: self._finished(key))
        order.waiting += 1
        try:
            return await asyncio.shield(asyncio.wrap_future(order.made))
        finally:
            order.waiting -= 1
            if order.waiting == 0:
                order.made.cancel()  # nothing happens once it is begun: then it is finished, and kept

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finished(self, key: str) -> None:
        with self._lock:
            self._orders.pop(key, None)


def _refuse_broken(shown: ShownVideo) -> None:
    if shown.broke:
        raise VIDEO_ERRORS[shown.broke]("broke its decoder when it was indexed; no pictures or copies of it are made")


class Pictures:
    """JPEG pictures of videos, kept in memory."""

    def __init__(self, darkrooms: Darkrooms, *, kept_bytes: int = KEPT_PICTURE_BYTES) -> None:
        self._darkrooms = darkrooms
        self._most_bytes = kept_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._workshop = Workshop[bytes]("picture", workers=max(1, (os.cpu_count() or 1) // 2), waiting=_WAITING_PICTURES)

    async def get(self, shown: ShownVideo, at_ms: int) -> bytes:
        """The picture shown at this time. Raises VideoError, VideoSkip, StopRun, TooBusy."""
        _refuse_broken(shown)
        key = f"{shown.video_id} {shown.video.fingerprint} {at_ms}"
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        picture = await self._workshop.get(key, lambda: self._make(shown, at_ms))
        if key not in self._kept:
            self._kept[key] = picture
            self._kept_bytes += len(picture)
        while self._kept_bytes > self._most_bytes:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return picture

    def close(self) -> None:
        self._workshop.close()

    def _make(self, shown: ShownVideo, at_ms: int) -> bytes:
        return self._darkrooms.get().picture(shown.video, shown.owner, at_ms / 1000, width=PICTURE_WIDTH)


class Copies:
    """Small copies of parts of videos that browsers cannot play as they are, kept in a folder of the user's cache."""

    def __init__(self, darkrooms: Darkrooms, folder: Path, *, kept_bytes: int = KEPT_COPY_BYTES) -> None:
        self._darkrooms = darkrooms
        self._folder = folder
        self._most_bytes = kept_bytes
        self._workshop = Workshop[Path]("copy", workers=1, waiting=_WAITING_COPIES)

    async def get(self, shown: ShownVideo, start_ms: int, end_ms: int) -> Path:
        """An MP4 of [start, end). Raises VideoError, VideoSkip, StopRun, TooBusy."""
        _refuse_broken(shown)
        path = self._folder / copy_name(shown.video, start_ms, end_ms)
        with suppress(FileNotFoundError):
            os.utime(path)  # used now: the longest unused one goes first
            return path
        return await self._workshop.get(path.name, lambda: self._make(shown, start_ms, end_ms, path))

    def close(self) -> None:
        self._workshop.close()

    def _make(self, shown: ShownVideo, start_ms: int, end_ms: int, path: Path) -> Path:
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            span = start_ms / 1000, end_ms / 1000
            self._darkrooms.get().copy(shown.video, shown.owner, *span, height=COPY_HEIGHT, target=unfinished)
            unfinished.replace(path)
            self._sweep(path)
        except OSError as error:
            raise OutputError(f"{self._folder}: {error.strerror}. XDG_CACHE_HOME moves small copies elsewhere.") from error
        finally:
            with suppress(OSError):
                unfinished.unlink()
        return path

    def _sweep(self, newest: Path) -> None:
        """Other pages, too, sweep this folder."""
        kept_bytes = 0
        for file, status in sorted(_found(self._folder, "*.mp4"), key=lambda file: -file[1].st_mtime):
            kept_bytes += status.st_size
            if kept_bytes > self._most_bytes and file != newest:
                file.unlink(missing_ok=True)
        for file, status in _found(self._folder, "*.tmp"):
            if status.st_mtime < time.time() - _LEFT_SECONDS:
                file.unlink(missing_ok=True)


def _found(folder: Path, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Files that are there, also if some are removed meanwhile."""
    for file in folder.glob(pattern):
        with suppress(FileNotFoundError):
            yield file, file.stat()
