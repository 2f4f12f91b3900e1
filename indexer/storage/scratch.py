"""Room on a local disk for copies that live as long as they are read, shared by all decoders of a machine.

INDEXER_SCRATCH names the folder (default: the system's folder for temporary files), INDEXER_SCRATCH_LIMIT the most bytes in it
(such as 20G; default: half of what the disk has free). A copy's room is taken before it is made, and its file is locked while
it is in use: the next process that looks for room removes what a killed one has left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexer.errors import ConfigError, ScratchFull
from indexer.quantities import size_bytes as read_size

FOLDER_VARIABLE = "INDEXER_SCRATCH"
LIMIT_VARIABLE = "INDEXER_SCRATCH_LIMIT"
WAIT_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def scratch_file(size_bytes: int, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Path]:
    """A file of `size_bytes` for the time of the block. Raises ScratchFull if no room for it comes free in `wait_seconds`."""
    folder = _folder()
    deadline = time.monotonic() + wait_seconds
    try:
        while (taken := _take(folder, size_bytes)) is None:
            if time.monotonic() >= deadline:
                raise ScratchFull(f"needs {size_bytes:,} bytes of scratch space in {folder}, which other videos have taken")
            time.sleep(_LOOK_AGAIN_SECONDS)
    except OSError as error:
        raise ConfigError(f"{FOLDER_VARIABLE}: {folder} cannot be used: {error.strerror}. Name a writable folder.") from error
    path, descriptor = taken
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(folder: Path, size_bytes: int) -> tuple[Path, int] | None:
    """A new file with its locked descriptor; None if there is no room now. Raises ScratchFull if there never will be."""
    with _locked(folder):
        used = _sweep(folder)
        limit = _limit(folder, used)
        if size_bytes > limit - used:
            if size_bytes > limit:
                raise ScratchFull(f"needs {size_bytes:,} bytes of scratch space in {folder}, where {limit:,} may be used")
            return None
        descriptor, name = tempfile.mkstemp(prefix="copy-", dir=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            os.unlink(name)  # noqa: PTH108
            os.close(descriptor)
            if error.errno not in _FULL:
                raise
            raise ScratchFull(f"needs {size_bytes:,} bytes of scratch space in {folder}: {error.strerror}") from error
        return Path(name), descriptor


def _sweep(folder: Path) -> int:
    """Remove the files whose process is dead. Gives the bytes that the others take."""
    used = 0
    for entry in os.scandir(folder):
        if not entry.name.startswith("copy-"):
            continue
        with suppress(FileNotFoundError):  # its owner has just removed it
            descriptor = os.open(entry.path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)  # noqa: PTH108
            except BlockingIOError:
                used += os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
    return used


def _limit(folder: Path, used: int) -> int:
    wanted = os.environ.get(LIMIT_VARIABLE)
    if not wanted:
        return (shutil.disk_usage(folder).free + used) // 2
    try:
        return read_size(wanted, least="1M", most="1000000G")
    except ValueError as error:
        raise ConfigError(f"{LIMIT_VARIABLE}: {error}") from None


def _folder() -> Path:
    """A folder of this user's own, so that nothing else in INDEXER_SCRATCH is ever touched."""
    parent = Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir())
    folder = parent / f"indexer-scratch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
    except OSError as error:
        raise ConfigError(f"{FOLDER_VARIABLE}: {folder} cannot be made: {error.strerror}. Name a writable folder.") from error
    if not is_ours:
        raise ConfigError(f"{FOLDER_VARIABLE}: {folder} belongs to somebody else. Name another folder.")
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time counts and takes room."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
