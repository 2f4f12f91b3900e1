"""Tries out whether an output can be written to, with a small file that does not stay. For `indexer doctor`."""

from __future__ import annotations

import uuid
from io import BytesIO

from indexer.errors import OutputError
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
