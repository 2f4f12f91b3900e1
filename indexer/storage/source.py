"""The source side: what is at a uri, what a folder holds, what a manifest names. Paths and s3:// addresses alike."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Literal

from indexer.errors import SourceError, SourceFault, VideoError, VideoSkip
from indexer.records import Failure, Outcome, Skipped
from indexer.storage.address import SCHEME, Address, is_s3, parse_s3
from indexer.storage.fetch import local_file
from indexer.storage.scan import Listed, examine, local_path, scan_folder

__all__ = ["Listed", "Presence", "absolute", "below", "copy_of", "examine_each", "kind_of", "scan"]

_OTHER_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def kind_of(uri: str) -> Literal["folder", "file", "other"]:
    """What `uri` names. In S3 everything is a folder that is no object. Raises SourceError."""
    if is_s3(uri):
        from indexer.storage.s3.client import connection  # half a second, for jobs on S3 only
        from indexer.storage.s3.listing import holds_object

        address = parse_s3(uri)
        return "file" if address.key and holds_object(connection(), address) else "folder"
    try:
        mode = Path(local_path(uri)).stat().st_mode
    except OSError as error:
        raise _unreadable(uri, error) from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def scan(
    uri: str, *, wanted: Callable[[str], bool], entered: Callable[[str], bool], warn: Callable[[str], None]
) -> Iterator[Listed]:
    """The files below the folder `uri`: see `scan_folder` and `scan_objects`."""
    if is_s3(uri):
        from indexer.storage.s3.client import connection
        from indexer.storage.s3.listing import scan_objects

        return scan_objects(connection(), parse_s3(uri), wanted=wanted, entered=entered)
    return scan_folder(uri, wanted=wanted, entered=entered, warn=warn)


def examine_each(uris: Iterable[str]) -> Iterator[Listed]:
    """What is at each of `uris`, in order: a Failure E_NOT_FOUND or E_ACCESS for what cannot be seen. Raises SourceError."""
    for in_s3, group in groupby(uris, key=is_s3):
        if in_s3:
            from indexer.storage.s3.client import connection
            from indexer.storage.s3.listing import look_at_each

            yield from look_at_each(connection(), group)
        else:
            yield from map(examine, group)


class Presence:
    """Whether what was listed can still be had, or its storage was taken away."""

    def __init__(self, root: str) -> None:
        """`root`: the folder or manifest of a source, as it is now. Raises SourceError."""
        self._root = root
        self._identity = self._identify()

    def confirm(self, outcome: Outcome) -> None:
        """Raises SourceError if a video is lost only because its storage is: a disk is not the one that was listed, or nothing
        is answered for as long as we are patient."""
        match outcome:
            case Failure(code=SourceFault.code) | Skipped(reason="gone"):
                self._check(outcome.video.uri)

    def _check(self, uri: str) -> None:
        if is_s3(uri):
            from indexer.storage.s3.client import connection
            from indexer.storage.s3.listing import check_answers

            check_answers(connection(), parse_s3(uri))
        elif self._identify() != self._identity:
            raise SourceError(f"source.uri: {self._root} is another folder now. Is its disk still mounted?")

    def _identify(self) -> tuple[int, ...]:
        if is_s3(self._root):
            return ()
        try:
            status = Path(local_path(self._root)).stat()
        except OSError as error:
            raise _unreadable(self._root, error) from error
        # A manifest may be written anew at any time; its disk says enough.
        return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else (status.st_dev,)


def absolute(folder: str, name: str) -> str:
    """The uri that `name` means in a manifest in `folder`. ValueError, with a sentence, for an address that cannot be read."""
    if is_s3(name):
        if not parse_s3(name).key:
            raise ValueError("names no object; write for example s3://bucket/a.mp4")
        return name
    if _OTHER_ADDRESS.match(name):
        raise ValueError("is an address of another kind; write a path, or for example s3://bucket/a.mp4")
    if is_s3(folder) and name[0] != "/":
        bucket, key = parse_s3(folder)
        return str(Address(bucket, posixpath.normpath(f"/{key}/{name}").lstrip("/")))
    return "/" + os.path.normpath(f"{folder}/{name}" if name[0] != "/" else name).lstrip("/")


def below(folder: str, uri: str) -> str:
    """The name of `uri` in `folder`; or, if it lies elsewhere, from its bucket or the root of the disk on."""
    return uri.removeprefix(f"{folder}/").removeprefix(SCHEME).removeprefix("/")


@contextmanager
def copy_of(uri: str) -> Iterator[Path]:
    """A local path of the file at `uri`, while the block runs. Raises SourceError if it cannot be read."""
    if not is_s3(uri):
        try:
            yield Path(local_path(uri))
        except OSError as error:
            raise _unreadable(uri, error) from error
        return
    from indexer.storage.s3.client import S3Fault, connection
    from indexer.storage.s3.objects import look_at

    try:
        with local_file(look_at(connection(), parse_s3(uri))) as path:
            yield Path(path)
    except (S3Fault, VideoError, VideoSkip) as error:
        raise SourceError(f"source.uri: {uri} cannot be read: {error}") from error


def _unreadable(uri: str, error: OSError) -> SourceError:
    return SourceError(f"source.uri: {uri}: {error.strerror or error}. Is the disk mounted, and may this user read it?")
