"""A whole object into a local file: several ranges at once, then its checksum."""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from indexer.storage.s3.checksums import Checksum
from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.objects import Version, ask_for_checksum, fetch_range

RANGE_BYTES = 8 << 20
"""An object that is not larger comes in one answer, and with its checksum."""
RANGES_AT_ONCE = 4
_TRIES = 4


def download(s3: S3, version: Version, path: Path) -> None:
    """Fill the file at `path` with the bytes of `version`. Raises S3Fault; `changed` if other bytes are there now.

    Bytes that do not agree with the checksum are fetched again, a few times, and then are `unavailable`.
    """
    asked = before = None
    for _ in range(_TRIES):
        checksum = _fetch(s3, version, path) or asked
        if checksum is None:
            checksum = asked = ask_for_checksum(s3, version)
        if checksum is None or (digest := checksum.of(path)) == checksum.value:
            return
        if digest == before and not checksum.is_sure:
            return  # damage on the way is not the same twice: this is no checksum of these bytes, though it looks like one
        before = digest
    raise S3Fault("unavailable", "the bytes that come do not agree with their checksum")


def _fetch(s3: S3, version: Version, path: Path) -> Checksum | None:
    cancelled = threading.Event()
    file = os.open(path, os.O_WRONLY)

    def fetch(start: int) -> Checksum | None:
        stop = min(start + RANGE_BYTES, version.size_bytes)
        return fetch_range(s3, version, start, stop, lambda offset, chunk: _write(file, chunk, offset), cancelled=cancelled)

    try:
        with ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="s3-download") as pool:
            ranges = [pool.submit(fetch, start) for start in range(0, version.size_bytes, RANGE_BYTES)]
            ended, _ = wait(ranges, return_when=FIRST_EXCEPTION)
            cancelled.set()  # without the range that failed the others are of no use
            for left in ranges:
                left.cancel()
            checksums = [download.result() for download in ended]
    finally:
        os.close(file)
    return checksums[0] if checksums else None


def _write(file: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
