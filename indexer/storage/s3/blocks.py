"""An object that can be read and sought like a file, of which only the blocks that are read are fetched.

A decoder that samples a long video reads its index and a second or two here and there. Blocks are kept in memory, the least
recently used ones dropped, so that a video of any size needs no disk. What will be read next is fetched ahead: exactly, where
the decoder knows it from the index of its container (`expect`), else by half of what was read in a row before.
"""

from __future__ import annotations

import io
import os
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.objects import Version, fetch_range

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 256 << 10
BLOCKS_KEPT = 256
BLOCKS_AHEAD = 32
"""Enough in flight to hide the latency of a storage far away."""
BLOCKS_AT_ONCE = 8
"""In one request, at most: requests cost money and time too."""
_REQUESTS_AT_ONCE = 8


@dataclass(slots=True)
class _Block:
    content: Future[bytes]
    run: int = 0
    """How many blocks were read in a row up to here; 0 until it is read itself."""


class Blocks:
    """The blocks of one version of an object. Close it, or use it as a context manager.

    Any number of files can be opened on it. The first fault, as `explain` puts it, ends it: whatever a decoder makes of a read
    that failed, `fault` says what happened.
    """

    def __init__(
        self, s3: S3, version: Version, *, explain: Callable[[S3Fault], Exception], blocks_kept: int = BLOCKS_KEPT
    ) -> None:
        self._s3 = s3
        self._explain = explain
        self._blocks_kept = blocks_kept
        self.version = version
        self.fault: Exception | None = None
        self.bytes_fetched = 0
        self.wait_seconds = 0.0
        """How long readers stood still for the network."""
        self._last = max(0, version.size_bytes - 1) // BLOCK_BYTES
        self._expected: list[int] = []
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="s3-blocks")
        self._cancelled = threading.Event()

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def open(self) -> BinaryIO:
        """A file with a position of its own; closing it leaves the blocks."""
        return io.BufferedReader(_BlockFile(self))

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """The ranges [start, stop), in bytes, that will be read, each once and in order. Nothing else is fetched ahead."""
        spans = ((start // BLOCK_BYTES, min((stop - 1) // BLOCK_BYTES, self._last)) for start, stop in ranges)
        self._expected = sorted({number for first, last in spans for number in range(first, last + 1)})

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on, at least one before the end of the object. Raises what went wrong first."""
        if start >= self.version.size_bytes or size <= 0:
            return b""
        number, offset = divmod(start, BLOCK_BYTES)
        began = time.perf_counter()
        try:
            if self.fault is None:
                return self._have(number).content.result()[offset : offset + size]
        except S3Fault as fault:
            self.fault = self._explain(fault)
        except Exception as error:  # noqa: BLE001  kept, because a decoder may swallow it
            self.fault = error
        finally:
            self.wait_seconds += time.perf_counter() - began
        raise self.fault

    def _have(self, number: int) -> _Block:
        """Block `number`, which may still be on its way, as may what comes after it."""
        with self._lock:
            before, block = self._blocks.get(number - 1), self._blocks.get(number)
            if block is None or not block.run:
                run = 1 + (before.run if before else 0)
                self._fetch([number, *self._next(number, run)])
                block = self._blocks[number]
                block.run = run
            self._blocks.move_to_end(number)
            while len(self._blocks) > self._blocks_kept:
                self._blocks.popitem(last=False)
            return block

    def _next(self, number: int, run: int) -> list[int]:
        """The blocks that will be read after `number`, as far as is known or likely."""
        if self._expected:
            place = bisect_right(self._expected, number)
            known = place > 0 and self._expected[place - 1] == number
            return self._expected[place : place + BLOCKS_AHEAD] if known else []
        return list(range(number + 1, min(number + min(run // 2, BLOCKS_AHEAD), self._last) + 1))

    def _fetch(self, numbers: list[int]) -> None:
        """Begin to fetch those of these ascending blocks that are not there; neighbours in one request."""
        missing = [number for number in numbers if number not in self._blocks]
        if missing and missing[0] != numbers[0] and len(missing) < min(len(numbers), BLOCKS_AT_ONCE) // 2:
            return  # nobody waits for them yet, and a few more make a better request
        while missing:
            count = 1
            while count < min(len(missing), BLOCKS_AT_ONCE) and missing[count] == missing[0] + count:
                count += 1
            blocks = [_Block(Future()) for _ in range(count)]
            self._blocks.update(zip(missing, blocks, strict=False))
            self._pool.submit(self._fetch_row, missing[0], [block.content for block in blocks])
            del missing[:count]

    def _fetch_row(self, first: int, contents: list[Future[bytes]]) -> None:
        """Fetch neighbouring blocks, each of which is there as soon as its last byte is."""
        start = first * BLOCK_BYTES
        stop = min(start + len(contents) * BLOCK_BYTES, self.version.size_bytes)
        waiting = iter(contents)
        arrived = bytearray()

        def take(offset: int, chunk: bytes) -> None:
            arrived.extend(chunk)
            while len(arrived) >= BLOCK_BYTES or (arrived and offset + len(chunk) == stop):
                block = bytes(arrived[:BLOCK_BYTES])
                del arrived[:BLOCK_BYTES]
                with self._lock:
                    self.bytes_fetched += len(block)
                next(waiting).set_result(block)

        try:
            fetch_range(self._s3, self.version, start, stop, take, cancelled=self._cancelled)
        except Exception as error:  # noqa: BLE001  for whoever reads these blocks
            for content in waiting:
                content.set_exception(error)


def open_object(s3: S3, version: Version, *, explain: Callable[[S3Fault], Exception]) -> BinaryIO:
    """One file on blocks of its own, which end when it is closed."""
    return io.BufferedReader(_BlockFile(Blocks(s3, version, explain=explain), owner=True))


class _BlockFile(io.RawIOBase):
    def __init__(self, blocks: Blocks, *, owner: bool = False) -> None:
        self._blocks = blocks
        self._owner = owner
        self._position = 0
        self.name = os.path.basename(blocks.version.address.key)  # noqa: PTH119  FFmpeg looks at the extension

    def close(self) -> None:
        if self._owner:
            self._blocks.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blocks.version.size_bytes}[whence]
        if base + offset < 0:
            raise OSError(f"cannot seek to {base + offset}, before the first byte")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        content = self._blocks.read(self._position, len(view))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
