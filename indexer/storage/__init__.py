"""The only place that knows an s3:// address from a path.

`open_storage` gives the output side: parts are created whole, read, listed and deleted by name. `source` lists what is to be
indexed, `fetch` brings its bytes. `s3` is imported only for a job that names an s3:// address.
"""

from __future__ import annotations

from pathlib import Path

from indexer.errors import ConfigError
from indexer.storage.address import is_s3, parse_s3
from indexer.storage.base import Storage, StoredFile
from indexer.storage.local import LocalStorage

__all__ = ["Storage", "StoredFile", "open_storage"]


def open_storage(uri: str) -> Storage:
    """The storage at `uri`, a folder (which need not exist yet) or a bucket and prefix.

    ConfigError for an address that cannot be written to; CredentialsError.
    """
    if is_s3(uri):
        from indexer.storage.s3.client import connection  # half a second, for jobs on S3 only
        from indexer.storage.s3.output import S3Storage

        return S3Storage(connection(), parse_s3(uri))
    if "://" in uri:
        raise ConfigError(f"output.uri: {uri} is not supported as an output; use a folder, or s3://bucket/folder")
    return LocalStorage(Path(uri))
