"""The bytes of a video, for a player: found by its number in the catalog, and only where the job's source is.

An object in S3 is not sent by us: the player gets a link to it that holds for an hour.

A folder is entered name by name without following links, from the source on: what has become a link since it was listed leads
nowhere, also while it is being opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from indexer.errors import AccessDenied, VideoSkip
from indexer.records import Video
from indexer.storage.address import is_s3
from indexer.storage.scan import local_path

_KINDS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}
"""Of containers that browsers know. A .mov is one to them if it is called MP4."""
_CODECS = {"h264", "vp8", "vp9", "av1"}


def plays_in_browsers(uri: str, codec: str) -> bool:
    """Whether browsers can be expected to play the file itself. They know better."""
    return PurePosixPath(uri).suffix.lower() in _KINDS and codec in _CODECS


def media_type(uri: str) -> str:
    return _KINDS.get(PurePosixPath(uri).suffix.lower(), "application/octet-stream")


def link_inside(source: str, video: Video, *, owner: str) -> str:
    """A short-lived link to an object of the source. Raises AccessDenied, and what `video_file` raises."""
    check_object(source, video.uri, owner=owner)
    from indexer.storage.s3.client import connection  # half a second, for archives in S3 only
    from indexer.storage.s3.link import link

    return link(connection(), video, media_type(video.uri))


def linked_origin(video: Video) -> str:
    """Where such links lead: scheme, host and port."""
    from indexer.storage.s3.client import connection
    from indexer.storage.s3.link import origin

    return origin(connection(), video)


def check_object(source: str, uri: str, *, owner: str) -> None:
    """Raises AccessDenied for an object outside the folder `source`, unless the catalog says that `source` listed it."""
    if owner != source and not (is_s3(source) and uri.startswith(f"{source.rstrip('/')}/")):
        raise AccessDenied("lies outside the source of this job")


def open_inside(source: str, uri: str, *, owner: str) -> int:
    """A descriptor of the regular file at `uri`, for reading; the caller closes it.

    `source` is the folder it must be in; or a manifest, which may name files anywhere: then the catalog must say that it is
    the `owner` of this video. No link is followed below the folder, nor anywhere on the way to a file of a manifest. Raises
    VideoSkip or AccessDenied if there is no such file, or not for us.
    """
    if is_s3(uri):
        raise AccessDenied("lies in S3")
    path, root = os.fsencode(local_path(uri)), os.fsencode(local_path(source))
    if not os.path.isdir(root):  # noqa: PTH112  names need not be UTF-8
        root = b"/" if owner == source else root
    inside = path.removeprefix(root.rstrip(b"/") + b"/")
    names = inside.split(b"/")
    if inside == path or not all(names) or {b".", b".."} & set(names):
        raise AccessDenied("lies outside the source of this job")
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names[:-1]:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            file = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise VideoSkip("gone") from None
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        reason = "a folder on the way to it, or the file itself, is a symbolic link" if link else error.strerror
        raise AccessDenied(f"cannot be opened: {reason}") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise VideoSkip("not_regular")
    return file


@contextmanager
def path_inside(source: str, uri: str, *, owner: str) -> Iterator[str]:
    """A path of the open file: see `open_inside`."""
    file = open_inside(source, uri, owner=owner)
    try:
        yield f"/dev/fd/{file}"
    finally:
        os.close(file)


class OpenFileResponse(FileResponse):
    """Sends a file by its descriptor, whole or one range of it, and closes it."""

    def __init__(self, file: int, uri: str) -> None:
        self._file = file
        super().__init__(f"/dev/fd/{file}", media_type=media_type(uri), stat_result=os.fstat(file))
        self.headers["cache-control"] = "private, no-cache"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(_without_many_ranges(scope), receive, send)
        finally:
            os.close(self._file)


def _without_many_ranges(scope: Scope) -> Scope:
    """Players ask for one range. A request for many gets the whole file, as is allowed: many cost much and serve nobody."""
    headers = [(name, value) for name, value in scope["headers"] if not (name == b"range" and b"," in value)]
    return {**scope, "headers": headers}
