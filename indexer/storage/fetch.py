"""Brings the bytes of a video to a decoder, and makes sure that they are the bytes of one version of the file.

    with video_file(video) as (now, file):     file.path, or blocks of an object that are fetched when file.open() reads them
    with local_file(video) as path:            for what needs a path

A local file is read where it is. A small object is copied to the scratch folder, because nearly all of it is needed; of a
larger one only what is read is fetched. Sources are only ever read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import BinaryIO, Protocol, TypeAlias

from indexer.errors import AccessDenied, Changed, IndexerError, ScratchFull, SourceFault, VideoSkip
from indexer.records import Video
from indexer.storage.address import is_s3
from indexer.storage.scan import local_path, stat_fingerprint
from indexer.storage.scratch import WAIT_SECONDS

_BLOCK_BYTES = 4 << 20


class VideoFile(Protocol):
    """The bytes of one video, as long as it is open."""

    @property
    def path(self) -> str | None:
        """A local file with all its bytes, if there is one already."""

    def open(self) -> BinaryIO:
        """The bytes, seekable, with a position of their own. Reading raises what `video_file` raises."""

    def check(self) -> None:
        """Raises what `video_file` raises if its bytes cannot be read, which may have looked like damage of the video."""

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """The ranges [start, stop), in bytes, that will be read, in order: they are fetched ahead, and nothing else is."""

    def whole(self) -> str:
        """The path of a local file with all its bytes, fetched now if need be. Raises ScratchFull if it has no room."""

    @property
    def bytes_fetched(self) -> int:
        """So far, from another machine."""

    @property
    def wait_seconds(self) -> float:
        """How long reads stood still for the network so far."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A `VideoFile` on a disk of this machine."""

    path: str
    bytes_fetched: int = 0
    wait_seconds: float = 0.0

    def open(self) -> BinaryIO:
        return open(self.path, "rb")  # noqa: PTH123  a name may hold bytes that are not UTF-8

    def check(self) -> None:
        """FFmpeg takes a place that cannot be read for the end of the file."""
        try:
            with self.open() as stream:
                while stream.read(_BLOCK_BYTES):
                    pass
        except OSError as error:
            raise _fault(error) from error

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """The system reads ahead."""

    def whole(self) -> str:
        return self.path


Opening: TypeAlias = AbstractContextManager[tuple[Video, VideoFile]]


@contextmanager
def video_file(video: Video, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[tuple[Video, VideoFile]]:
    """`video` as it is now, and its bytes while the block runs. `wait_seconds`: for room in the scratch folder.

    An object that was replaced since it was listed is read as it is now, and has another fingerprint then.

    Raises, also at the end: Changed if the bytes did not stay the same, VideoSkip(gone), AccessDenied, Archived, SourceFault
    if the storage does not deliver, ScratchFull; CredentialsError and SourceError, which stop the run.
    """
    if is_s3(video.uri):
        from indexer.storage.s3.client import connection  # half a second, for jobs on S3 only
        from indexer.storage.s3.video import s3_video_file

        with s3_video_file(connection(), video, wait_seconds=wait_seconds) as opened:
            yield opened
    else:
        path = local_path(video.uri)
        _check(video, path)
        yield video, LocalFile(path)
        _check(video, path)


@contextmanager
def local_file(video: Video) -> Iterator[str]:
    """The path of a file with the bytes of `video`, while the block runs. Raises what `video_file` raises."""
    with video_file(video) as (now, file):
        if now != video:
            raise Changed("was replaced after it was listed")
        yield file.whole()


def video_files(videos: Sequence[Video]) -> Iterator[tuple[Video, Opening]]:
    """Each video with what opens it, in order. While one is open, the next one, if it is an object, is fetched already."""
    with ThreadPoolExecutor(1, thread_name_prefix="fetch-ahead") as pool, ExitStack() as unused:
        turns = [_Turn(video, pool, unused) for video in videos]
        for turn, following in zip_longest(turns, turns[1:]):
            turn.following = following
            yield turn.video, turn


def replacement(video: Video) -> Video | None:
    """What lies now where an object was replaced while it was read; raises what `video_file` raises.

    None for a local file: it may still be being written, so that source.min_age applies, and the next run takes it. An object
    is there whole or not at all.
    """
    if not is_s3(video.uri):
        return None
    from indexer.storage.s3.client import connection
    from indexer.storage.s3.video import look_again

    return look_again(connection(), video)


class _Turn(AbstractContextManager[tuple[Video, VideoFile]]):
    """A video that is opened when its turn comes, or ahead of it. `unused` closes what never had its turn."""

    def __init__(self, video: Video, pool: ThreadPoolExecutor, unused: ExitStack) -> None:
        self.video = video
        self.following: _Turn | None = None
        self._pool = pool
        self._unused = unused
        self._stack = ExitStack()
        self._ahead: Future[tuple[Video, VideoFile]] | None = None

    def __enter__(self) -> tuple[Video, VideoFile]:
        opened = self._open()
        if self.following is not None and is_s3(self.following.video.uri):
            self.following._open_ahead()
        return opened

    def __exit__(self, *error: object) -> bool | None:
        return self._stack.__exit__(*error)  # type: ignore[arg-type]

    def _open(self) -> tuple[Video, VideoFile]:
        if self._ahead is not None:
            with suppress(ScratchFull):
                return self._ahead.result()
        return self._stack.enter_context(video_file(self.video))

    def _open_ahead(self) -> None:
        # Without waiting for room in the scratch folder: what is open now may have taken it.
        self._ahead = self._pool.submit(self._stack.enter_context, video_file(self.video, wait_seconds=0))
        self._unused.callback(self._give_up, self._ahead)

    def _give_up(self, ahead: Future[tuple[Video, VideoFile]]) -> None:
        if not ahead.cancel():
            ahead.exception()  # wait until it is open, or cannot be
        self._stack.close()


def _check(video: Video, path: str) -> None:
    try:
        current = stat_fingerprint(path)
    except OSError as error:
        raise _fault(error) from error
    if current != video.fingerprint:
        raise Changed("changed between listing and the end of reading")


def _fault(error: OSError) -> IndexerError:
    """What it means for the video."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return VideoSkip("gone")
        case PermissionError():
            return AccessDenied("may not be read by this user")
    return SourceFault(f"could not be read: {error.strerror}")  # a disk or a network that fails, not the file
