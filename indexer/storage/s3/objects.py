"""One object as it was at one time, and ranges of its bytes: those very bytes, or an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from indexer.records import Video
from indexer.storage.address import Address, parse_s3
from indexer.storage.s3.checksums import Checksum, stated, stated_of_parts
from indexer.storage.s3.client import S3, S3Fault, Waiting, explained

CHUNK_BYTES = 256 << 10
PROGRESS_BYTES = 64 << 10
"""What comes slower than this in all the time that patience lasts does not come."""


@dataclass(frozen=True, slots=True)
class Version:
    """The bytes that an address had at one time. Every request for them says which ones are meant (If-Match)."""

    address: Address
    size_bytes: int
    etag: str
    """Without its quotation marks."""


def as_video(address: Address, described: dict[str, Any], size_bytes: int) -> Video:
    """`described` is what S3 answers about an object, in a list or alone.

    The fingerprint has no version id: lists do not know it, and the ETag alone tells one content from another.
    """
    etag = described["ETag"].strip('"')
    return Video(str(address), f"{size_bytes}-{etag}", size_bytes, described["LastModified"].timestamp())


def version_of(video: Video) -> Version:
    """The bytes that a listing saw."""
    return Version(parse_s3(video.uri), video.size_bytes, video.fingerprint.partition("-")[2])


def describe(s3: S3, address: Address) -> dict[str, Any]:
    """What S3 says of the object at `address` now. Raises S3Fault."""
    name: dict[str, Any] = {"Bucket": address.bucket, "Key": address.key}
    try:
        answer: dict[str, Any] = s3.ask("head_object", address, **name)
    except S3Fault as fault:
        if fault.kind not in ("denied", "refused"):
            raise
        # The answer to HEAD has no body, so it cannot say whether the key or the credentials were refused. GET can.
        answer = s3.ask("get_object", address, **name)
        answer["Body"].close()
    return answer


def look_at(s3: S3, address: Address) -> Video:
    """What is at `address` now. Raises S3Fault."""
    described = describe(s3, address)
    return as_video(address, described, described["ContentLength"])


def ask_for_checksum(s3: S3, version: Version) -> Checksum | None:
    """The checksum of an object whose bytes came without one, by two more requests; None if S3 knows none. Raises S3Fault."""
    name: dict[str, Any] = {"Bucket": version.address.bucket, "Key": version.address.key, "ChecksumMode": "ENABLED"}
    try:
        answer = s3.ask("head_object", version.address, IfMatch=f'"{version.etag}"', **name)
        if checksum := stated(answer, version.etag):
            return checksum
        part = s3.ask("head_object", version.address, PartNumber=1, **name)
    except S3Fault as fault:
        if fault.kind in ("denied", "refused", "unsupported"):
            return None
        raise
    return stated_of_parts(answer, version.etag, part_bytes=part["ContentLength"], size_bytes=version.size_bytes)


def fetch_range(
    s3: S3,
    version: Version,
    start: int,
    stop: int,
    take: Callable[[int, bytes], object],
    *,
    cancelled: threading.Event | None = None,
) -> Checksum | None:
    """Give the bytes [start, stop) to `take(offset, chunk)`, in order, each once; the checksum of the object, if S3 told it.

    What breaks off, stalls or crawls is asked for again from where it stopped. Raises S3Fault: `changed` if other bytes are
    there now, `gone`, `denied`, or `unavailable` when nothing came for as long as patience lasts, or `cancelled` was set.
    """
    cancelled = cancelled or threading.Event()
    waiting = Waiting(s3.patience, cancelled)
    position = counted = start
    checksum = None
    while position < stop:
        try:
            with explained(version.address):
                answer = _ask_for(s3, version, position, stop, cancelled)
                checksum = checksum or stated(answer, version.etag)
                for chunk in _body(s3, answer, cancelled):
                    take(position, chunk)
                    position += len(chunk)
                    if position - counted >= PROGRESS_BYTES:
                        counted = position
                        waiting.progress()
            if position < stop:
                raise S3Fault("unavailable", f"the answer ended {stop - position} bytes early")
        except S3Fault as fault:
            if fault.kind != "unavailable":
                raise
            waiting.after(fault)
    return checksum


def _ask_for(s3: S3, version: Version, start: int, stop: int, cancelled: threading.Event) -> Any:
    """The answer with exactly the bytes [start, stop) in its body, which is not read yet."""
    # Only an answer with all bytes comes with their checksum.
    part = {} if (start, stop) == (0, version.size_bytes) else {"Range": f"bytes={start}-{stop - 1}"}
    answer = s3.ask(
        "get_object",
        version.address,
        cancelled=cancelled,
        Bucket=version.address.bucket,
        Key=version.address.key,
        IfMatch=f'"{version.etag}"',
        **part,
    )
    if answer["ContentLength"] != stop - start:
        answer["Body"].close()
        raise S3Fault("unavailable", f"the answer has {answer['ContentLength']} bytes where {stop - start} were asked for")
    if answer["ETag"].strip('"') != version.etag:
        answer["Body"].close()
        raise S3Fault("changed", "another object answered, though If-Match named this one")
    return answer


def _body(s3: S3, answer: Any, cancelled: threading.Event) -> Iterator[bytes]:
    """The body as it arrives, as long as it arrives fast enough."""
    patience = s3.patience
    began, received = time.monotonic(), 0
    with answer["Body"] as stream:  # closes the connection, unless the body was read to its end
        # `read1` gives what is there, where `read` would wait for a whole chunk, however slowly it comes.
        while (chunk := stream.read1(CHUNK_BYTES)) and not cancelled.is_set():
            yield chunk
            received += len(chunk)
            now = time.monotonic()
            if now - began >= patience.window_seconds:
                if received < patience.least_bytes_per_second * (now - began):
                    raise S3Fault("unavailable", f"only {received} bytes came in {now - began:.0f} s")
                began, received = now, 0
