"""Brings the bytes of a video to a local path, and makes sure that they are the bytes that were listed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from indexer.errors import AccessDenied, Changed, VideoSkip
from indexer.records import Video
from indexer.storage.scan import local_path, stat_fingerprint


@contextmanager
def local_file(video: Video) -> Iterator[str]:
    """The path of `video` while the block runs. Sources are only ever read.

    Raises Changed if the file is, or at the end was, not the one that was listed; VideoSkip(gone); AccessDenied.
    """
    path = local_path(video.uri)
    _check(video, path)
    yield path
    _check(video, path)


def _check(video: Video, path: str) -> None:
    try:
        current = stat_fingerprint(path)
    except FileNotFoundError:
        raise VideoSkip("gone") from None
    except PermissionError:
        raise AccessDenied("may not be read by this user") from None
    if current != video.fingerprint:
        raise Changed("changed between listing and the end of reading")
