"""A folder of videos on this machine, walked as a stream; and how a file name becomes a uri and back.

A uri is the absolute path as text. Names are bytes to the system and need not be UTF-8: a path that is not has those bytes
written as %XX, and % itself as %25, so that every file has a uri that a database, a terminal and JSON can hold.

    /archive/100%.mp4                 the same
    /archive/bad\\xff.mp4              /archive/bad%FF.mp4
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from indexer.errors import SourceError
from indexer.records import Failure, Skipped, Video

Listed: TypeAlias = Video | Skipped | Failure
"""What a listing says of one object."""

_VANISHED = (FileNotFoundError, NotADirectoryError)


def scan_folder(
    root: str,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    entered: Callable[[str], bool] = lambda name: True,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[Listed]:
    """The files below `root` that are `wanted`, folder by folder, each folder sorted by name. Nothing but names is read.

    `wanted` is asked with the path of a file, `entered` with that of a folder, both relative to `root`. Links are not
    followed; `warn` hears of linked folders, whose videos are missing from the listing. A folder that cannot be read is one
    Failure, with the uri of the folder and a slash at its end. What disappears meanwhile is not listed. Memory: the names
    in one folder, and the folders still to be read.

    Raises SourceError if `root` itself cannot be read, or is another folder at the end: its disk was taken away.
    """
    top = _path(root).rstrip(b"/")
    mounted = _identity(root)
    folders = [top]
    while folders:
        folder = folders.pop()
        inside = folder + b"/"
        files, subfolders = [], []
        try:
            with os.scandir(inside) as entries:
                for entry in entries:
                    name = _text(entry.path[len(top) + 1 :])
                    if entry.is_dir(follow_symlinks=False):
                        if entered(name):
                            subfolders.append(entry.name)
                    elif wanted(name):
                        files.append(entry.name)
                    elif entry.is_symlink() and _leads_to_folder(entry) and entered(name):
                        warn(f"{_uri(entry.path)} is a link to a folder, which is not followed: list that folder itself")
        except OSError as error:
            if folder == top:
                raise _unreadable(root, error) from error
            if not isinstance(error, _VANISHED):
                yield _failure(f"{_uri(folder)}/", "E_ACCESS", f"the folder cannot be read: {error.strerror}")
        for file in sorted(files):
            listed = _examine(inside + file)
            if not (isinstance(listed, Failure) and listed.code == "E_NOT_FOUND"):
                yield listed
        folders.extend(inside + name for name in sorted(subfolders, reverse=True))
    if _identity(root) != mounted:
        raise SourceError(f"source.uri: {root} changed while it was listed. Is its disk still mounted?")


def examine(path: str) -> Listed:
    """The object at an absolute path, which may be a uri of ours: a Failure E_NOT_FOUND or E_ACCESS if it cannot be seen."""
    return _examine(_path(path))


def local_path(uri: str) -> str:
    """The path that the system knows by this uri. Whether anything is there is another question."""
    return os.fsdecode(_path(uri))


def stat_fingerprint(path: str) -> str:
    """The fingerprint of what is at `path` now, links not followed. Raises OSError."""
    return _fingerprint(os.lstat(path))


def _examine(path: bytes) -> Listed:
    uri = _uri(path)
    try:
        status = os.lstat(path)
    except (*_VANISHED, ValueError):
        return _failure(uri, "E_NOT_FOUND", "there is no such file")
    except OSError as error:
        return _failure(uri, "E_ACCESS", f"cannot be seen: {error.strerror}")
    video = Video(uri, _fingerprint(status), status.st_size, status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        return video
    if stat.S_ISLNK(status.st_mode):
        return Skipped(video, "symlink" if os.path.exists(path) else "dangling_link")  # noqa: PTH110, a Path has no bytes
    return Skipped(video, "not_regular")


def _failure(uri: str, code: str, message: str) -> Failure:
    """Without bytes that were seen, the fingerprint is empty."""
    return Failure(Video(uri, fingerprint="", size_bytes=0, modified_at=0.0), code, message)


def _fingerprint(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _identity(root: str) -> tuple[int, int]:
    try:
        status = Path(local_path(root)).stat()
    except OSError as error:
        raise _unreadable(root, error) from error
    return status.st_dev, status.st_ino


def _unreadable(root: str, error: OSError) -> SourceError:
    return SourceError(f"source.uri: {root}: {error.strerror}. Is the disk mounted, and may this user read it?")


def _leads_to_folder(link: os.DirEntry[bytes]) -> bool:
    try:
        return link.is_dir()
    except OSError:
        return False


def _uri(path: bytes) -> str:
    text = _text(path)
    if _is_utf8(path) or not os.path.lexists(text.encode()):
        return text
    # Another file is really called so. Writing every byte as %XX gives this one a name of its own.
    return "/".join("".join(f"%{byte:02X}" for byte in name) for name in path.split(b"/"))


def _path(uri: str) -> bytes:
    plain = uri.encode()
    raw = unquote_to_bytes(uri)
    # Only a path that is not UTF-8 was ever written with %XX: any other file has its % in its name.
    return plain if _is_utf8(raw) or os.path.lexists(plain) else raw


def _text(path: bytes) -> str:
    if _is_utf8(path):
        return path.decode()
    text = path.replace(b"%", b"%25").decode(errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda bad: f"%{ord(bad[0]) - 0xDC00:02X}", text)


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
