"""The only place that knows an s3:// address from a path.

`open_storage` gives the output side: parts are created whole, read, listed and deleted by name.
"""

from __future__ import annotations

from pathlib import Path

from indexer.errors import ConfigError
from indexer.storage.base import Storage, StoredFile
from indexer.storage.local import LocalStorage

__all__ = ["Storage", "StoredFile", "open_storage"]


def open_storage(uri: str) -> Storage:
    """The storage at `uri`, a folder (which need not exist yet). ConfigError for an address that cannot be written to."""
    if "://" in uri:
        raise ConfigError(f"output.uri: {uri} is not supported as an output; use a folder")
    return LocalStorage(Path(uri))
