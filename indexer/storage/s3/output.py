"""Output in a bucket. A file is gathered here first and then sent in one request, so it is there whole or not at all."""

from __future__ import annotations

import base64
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO, cast

from indexer.errors import OutputError
from indexer.storage.address import Address
from indexer.storage.base import StoredFile, check_name
from indexer.storage.s3.blocks import open_object
from indexer.storage.s3.checksums import digest
from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.objects import describe, look_at, version_of
from indexer.storage.s3.pages import Pages

SPOOL_BYTES = 32 << 20
"""A larger file waits in the system's folder for temporary files until it is complete."""
_UPLOAD = "indexer-upload"

_CURES = {
    "gone": "It was deleted by somebody else; `check` says what is missing.",
    "no_bucket": "Make the bucket, or correct output.uri.",
    "changed": "Files of the output are never replaced; move this one away.",
    "exists": "Files of the output are never replaced; move this one away.",
    "denied": "These credentials need s3:PutObject, s3:GetObject and s3:ListBucket there; `gc` needs s3:DeleteObject.",
    "unavailable": "Is the network up, and AWS_ENDPOINT_URL_S3 right? Run the same command again later.",
}


class S3Storage:
    """See `Storage` for the contract. Parts are some hundred megabytes at most, and one request takes 5 GB."""

    def __init__(self, s3: S3, root: Address) -> None:
        self._s3 = s3
        self._root = root
        self._conditional = True
        """Whether the storage knows If-None-Match; not all do, and then the unique names of parts must be enough."""

    @property
    def uri(self) -> str:
        return str(self._root).rstrip("/")

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        address = self._address(name)
        try:
            with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
                yield cast(BinaryIO, file)
                with _as_output_error(address):
                    self._put(address, cast(BinaryIO, file))
        except OSError as error:
            raise OutputError(
                f"{address}: {error.strerror or error}, while it was gathered in {tempfile.gettempdir()}. Free some space"
                " there, or set TMPDIR to a folder on a larger disk, and run the same command again."
            ) from error

    def replace(self, name: str, data: bytes) -> None:
        address = self._address(name)
        with _as_output_error(address):
            self._s3.ask("put_object", address, Bucket=address.bucket, Key=address.key, Body=BytesIO(data))

    def open(self, name: str) -> BinaryIO:
        address = self._address(name)
        with _as_output_error(address):
            version = version_of(look_at(self._s3, address))
        return open_object(self._s3, version, explain=lambda fault: _output_error(address, fault))

    def delete(self, name: str) -> None:
        address = self._address(name)
        with _as_output_error(address):
            self._s3.ask("delete_object", address, Bucket=address.bucket, Key=address.key)

    def list_files(self, prefix: str) -> Iterator[StoredFile]:
        address = self._address(prefix)
        with _as_output_error(address):
            for page in Pages(self._s3, address.bucket, address.key):
                for item in page:
                    name = item["Key"].removeprefix(self._root.folder)
                    if not name.endswith("/"):
                        yield StoredFile(name, item["Size"], item["LastModified"].timestamp())

    def _put(self, address: Address, file: BinaryIO) -> None:
        upload = uuid.uuid4().hex
        file.seek(0)
        arguments: dict[str, Any] = {
            "Bucket": address.bucket,
            "Key": address.key,
            "Body": file,
            "ChecksumCRC32": base64.b64encode(digest("crc32", file)).decode("ascii"),
            "Metadata": {_UPLOAD: upload},
        }
        if self._conditional:
            try:
                self._s3.ask("put_object", address, IfNoneMatch="*", **arguments)
                return
            except S3Fault as fault:
                if fault.kind in ("changed", "exists"):
                    found = self._look(address)
                    if found is not None and found.get("Metadata", {}).get(_UPLOAD) == upload:
                        return  # it arrived before; only the answer was lost
                    raise
                if fault.kind not in ("unsupported", "refused"):
                    raise
        if self._look(address) is not None:
            raise S3Fault("exists", "it is there already")
        self._s3.ask("put_object", address, **arguments)
        self._conditional = False

    def _look(self, address: Address) -> Any:
        """What S3 says of the object; None if there is none."""
        try:
            return describe(self._s3, address)
        except S3Fault as fault:
            if fault.kind != "gone":
                raise
            return None

    def _address(self, name: str) -> Address:
        return Address(self._root.bucket, self._root.folder + check_name(name))


@contextmanager
def _as_output_error(address: Address) -> Iterator[None]:
    try:
        yield
    except S3Fault as fault:
        raise _output_error(address, fault) from fault


def _output_error(address: Address, fault: S3Fault) -> OutputError:
    return OutputError(f"{address}: {fault}. {_CURES.get(fault.kind, 'Check output.uri and the settings of the storage.')}")
