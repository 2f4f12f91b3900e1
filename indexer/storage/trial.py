"""Tries out what a job asks of its storage, and leaves nothing there. For `indexer doctor`."""

from __future__ import annotations

import errno
import uuid
from io import BytesIO
from typing import Any

from indexer.errors import OutputError, SourceError
from indexer.records import Video
from indexer.storage import open_storage
from indexer.storage.address import Address, parse_s3


def try_output(uri: str) -> str | None:
    """Write a file and delete it. Gives its name if it could not be deleted. Raises OutputError, CredentialsError."""
    storage = open_storage(uri)
    name = f"doctor-{uuid.uuid4().hex[:12]}"
    with storage.create(name) as file:
        file.write(b"written by `indexer doctor`; may be deleted\n")
    try:
        storage.delete(name)
    except OutputError:
        return name
    return None


def try_conditional(uri: str) -> bool:
    """Whether the second of two PUTs with If-None-Match: * is refused. Raises OutputError, CredentialsError."""
    from indexer.storage.s3.client import S3Fault, connection  # half a second, for jobs on S3 only

    root = parse_s3(uri)
    address = Address(root.bucket, f"{root.folder}doctor-{uuid.uuid4().hex[:12]}")
    s3, refused = connection(), False
    try:
        for _ in range(2):
            s3.ask("put_object", address, Bucket=address.bucket, Key=address.key, IfNoneMatch="*", Body=BytesIO(b""))
    except S3Fault as fault:
        if fault.kind in ("denied", "no_bucket", "unavailable"):
            raise OutputError(f"{address}: {fault}. Correct output.uri, or what these credentials may do.") from fault
        refused = fault.kind in ("changed", "exists")
    open_storage(uri).delete(address.key.removeprefix(root.folder))
    return refused


def try_reading(video: Video) -> list[str]:
    """What reading an object needs, and its storage does not know: Range, If-Match. Raises SourceError, CredentialsError."""
    from indexer.storage.s3.client import S3Fault, connection
    from indexer.storage.s3.objects import version_of

    version = version_of(video)
    one_byte: dict[str, Any] = {"Bucket": version.address.bucket, "Key": version.address.key, "Range": "bytes=0-0"}
    unknown = []
    try:
        answer = connection().ask("get_object", version.address, IfMatch=f'"{version.etag}"', **one_byte)
        answer["Body"].close()
        if answer["ContentLength"] != 1:
            unknown.append("Range")
        try:
            connection().ask("get_object", version.address, IfMatch='"of-no-object"', **one_byte)["Body"].close()
            unknown.append("If-Match")
        except S3Fault as fault:
            if fault.kind != "changed":
                raise
    except S3Fault as fault:
        if fault.kind not in ("gone", "changed", "archived"):  # which may happen to any one video
            raise SourceError(f"{version.address}: {fault}. These credentials need s3:GetObject there.") from fault
    return unknown


def try_object(uri: str) -> int:
    """The size of an object in bytes. Raises OSError if there is none, or it may not be read; CredentialsError."""
    from indexer.storage.s3.client import S3Fault, connection
    from indexer.storage.s3.objects import look_at

    try:
        return look_at(connection(), parse_s3(uri)).size_bytes
    except S3Fault as fault:
        raise OSError(errno.EIO, str(fault), uri) from fault
