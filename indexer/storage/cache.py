"""Files that a job names and that do not change while it runs: its weights, its labels. From S3 they are fetched once."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from indexer.storage.address import is_s3, parse_s3


def cached_copy(uri: str) -> str:
    """The local path of the file at `uri`: itself, or a copy of this version of the object in the user's cache.

    Raises OSError if it cannot be had; CredentialsError.
    """
    if not is_s3(uri):
        return uri
    from indexer.storage.s3.client import S3Fault, connection  # half a second, for jobs on S3 only
    from indexer.storage.s3.download import download
    from indexer.storage.s3.objects import look_at, version_of

    try:
        found = look_at(connection(), parse_s3(uri))
        version = hashlib.sha256(f"{uri} {found.fingerprint}".encode()).hexdigest()[:16]
        final = _folder() / f"{version}-{PurePosixPath(uri).name[-100:]}"
        if not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=final.parent, prefix=".", suffix=".tmp")
            os.close(descriptor)
            try:
                download(connection(), version_of(found), Path(unfinished))
                Path(unfinished).replace(final)
            finally:
                Path(unfinished).unlink(missing_ok=True)
    except S3Fault as fault:
        raise OSError(errno.EIO, str(fault), uri) from fault
    return str(final)


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "indexer" / "objects"
