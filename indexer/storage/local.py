"""Output in a folder of this machine, or of a file system that is mounted on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from indexer.errors import OutputError
from indexer.storage.base import StoredFile, check_name

_CURES = {
    errno.ENOSPC: "Free some space there, or point output.uri at a larger disk, and run the same command again.",
    errno.EDQUOT: "Free some space within your quota, or have it raised, and run the same command again.",
    errno.EFBIG: "This file system, or a limit of this process, does not allow files of this size.",
    errno.EACCES: "Give the user that runs the indexer write permission there.",
    errno.EPERM: "Give the user that runs the indexer write permission there.",
    errno.EROFS: "Mount it writable, or point output.uri somewhere else.",
    errno.EEXIST: "Files of the output are never replaced; move this one away.",
    errno.ENOTDIR: "Something on this path is a file where a folder is needed; correct output.uri.",
}


class LocalStorage:
    """A folder. Files are written beside their final place under a hidden name, synced, and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def uri(self) -> str:
        return str(self._root)

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        final = self._path(name)
        unfinished = final.with_name(f".{final.name}.tmp")
        with _as_output_error(final):
            _make_folder(final.parent)
            file = unfinished.open("xb")
            try:
                with file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                if final.exists():  # rename would replace it
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
                unfinished.rename(final)
                _sync_folder(final.parent)
            except BaseException:  # Ctrl-C, too: what is unfinished must not stay
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                raise

    def replace(self, name: str, data: bytes) -> None:
        final = self._path(name)
        unfinished = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        with _as_output_error(final):
            _make_folder(final.parent)
            try:
                unfinished.write_bytes(data)
                unfinished.rename(final)
            finally:
                unfinished.unlink(missing_ok=True)

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        with _as_output_error(path):
            return path.open("rb")

    def delete(self, name: str) -> None:
        path = self._path(name)
        with _as_output_error(path):
            path.unlink(missing_ok=True)

    def list_files(self, prefix: str) -> Iterator[StoredFile]:
        folder = self._path(prefix.rpartition("/")[0])
        with _as_output_error(folder):
            paths = {path.relative_to(self._root).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            for name, path in sorted(paths.items()):
                with suppress(FileNotFoundError):  # deleted since
                    stat = path.stat()
                    if name.startswith(prefix):
                        yield StoredFile(name, stat.st_size, stat.st_mtime)

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        cure = _CURES.get(cast(int, error.errno), "Check the disk and the mount.")
        raise OutputError(f"{path}: {what}. {cure}") from error


def _make_folder(folder: Path) -> None:
    """Make `folder` and its parents, each durable in its own parent before anything is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with _as_output_error(folder):
        if folder.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is not, until its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
