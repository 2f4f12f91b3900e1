"""What S3 says of all the bytes of an object, and what a file has of it.

Of an object that was uploaded in several parts S3 often knows no more than the checksum of the checksums of its parts:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from awscrt import checksums as crt

_READ_BYTES = 1 << 20
_CRCS: dict[str, tuple[Callable[[bytes, int], int], int]] = {
    "crc64nvme": (crt.crc64nvme, 8),
    "crc32c": (crt.crc32c, 4),
    "crc32": (zlib.crc32, 4),
}
"""Name -> of these bytes after those of which this is the checksum; its length in bytes."""
_ALGORITHMS = ("sha256", "sha1", *_CRCS)


@dataclass(frozen=True, slots=True)
class Checksum:
    """One of all bytes, or of the checksums of the parts, all of which but the last have the same length."""

    algorithm: str
    """md5, sha1, sha256, crc32, crc32c or crc64nvme."""
    value: bytes
    is_sure: bool = True
    """Else that it is one of these bytes is a guess: from how the ETag looks, or how long the first part is."""
    part_bytes: int | None = None
    """Of the checksum of the checksums of parts."""

    def of(self, path: Path) -> bytes:
        """The same of the file at `path`."""
        size = path.stat().st_size
        step = self.part_bytes or max(size, 1)
        with path.open("rb") as file:
            digests = [digest(self.algorithm, file, step) for _ in range(0, max(size, 1), step)]
        if self.part_bytes is None:
            return digests[0]
        return digest(self.algorithm, io.BytesIO(b"".join(digests)), sum(map(len, digests)))


def stated(answer: dict[str, Any], etag: str) -> Checksum | None:
    """What S3 says of all bytes in its answer to GET or HEAD."""
    for algorithm in _ALGORITHMS:
        value = answer.get(f"Checksum{algorithm.upper()}")
        if value and "-" not in value:
            return Checksum(algorithm, base64.b64decode(value))
    if _has_md5(answer) and re.fullmatch("[0-9a-f]{32}", etag):
        return Checksum("md5", bytes.fromhex(etag), is_sure=False)
    return None


def stated_of_parts(answer: dict[str, Any], etag: str, *, part_bytes: int, size_bytes: int) -> Checksum | None:
    """The same of an object in parts, of which the first is `part_bytes` long."""
    if part_bytes == 0:
        return None
    parts = f"-{-(-size_bytes // part_bytes)}"
    for algorithm in _ALGORITHMS:
        value = answer.get(f"Checksum{algorithm.upper()}") or ""
        if value.endswith(parts):
            return Checksum(algorithm, base64.b64decode(value.removesuffix(parts)), is_sure=False, part_bytes=part_bytes)
    if _has_md5(answer) and re.fullmatch(f"[0-9a-f]{{32}}{parts}", etag):
        return Checksum("md5", bytes.fromhex(etag.removesuffix(parts)), is_sure=False, part_bytes=part_bytes)
    return None


def _has_md5(answer: dict[str, Any]) -> bool:
    """Whether the ETag is made of MD5s: not with a key of KMS or of the customer."""
    return answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer


def digest(algorithm: str, file: BinaryIO, limit: int = sys.maxsize) -> bytes:
    """Of up to `limit` bytes, from where `file` stands."""
    hashed = None if algorithm in _CRCS else hashlib.new(algorithm, usedforsecurity=False)
    crc = 0
    while limit and (chunk := file.read(min(limit, _READ_BYTES))):
        limit -= len(chunk)
        if hashed:
            hashed.update(chunk)
        else:
            crc = _CRCS[algorithm][0](chunk, crc)
    return hashed.digest() if hashed else crc.to_bytes(_CRCS[algorithm][1], "big")
