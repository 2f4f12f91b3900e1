"""One object as it was at one time, and ranges of its bytes: those very bytes, or an error."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from indexer.records import Video
from indexer.storage.address import Address, parse_s3
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


@dataclass(frozen=True, slots=True)
class Checksum:
    """What S3 says of all the bytes of an object."""

    algorithm: str
    """md5, sha1, sha256 or crc32."""
    value: bytes


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
                checksum = checksum or _checksum(answer, version)
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


def _checksum(answer: Any, version: Version) -> Checksum | None:
    for algorithm in ("sha256", "sha1", "crc32"):
        value = answer.get(f"Checksum{algorithm.upper()}")
        if value and "-" not in value:  # a dash and a number: a checksum of checksums of parts that nobody knows
            return Checksum(algorithm, base64.b64decode(value))
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer
    return Checksum("md5", bytes.fromhex(version.etag)) if plain and re.fullmatch("[0-9a-f]{32}", version.etag) else None
