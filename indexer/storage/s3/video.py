"""A video that lies in S3, opened for a decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from indexer.errors import AccessDenied, Archived, Changed, IndexerError, SourceError, SourceFault, VideoSkip
from indexer.records import Video
from indexer.storage.s3.blocks import Blocks
from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.download import download
from indexer.storage.s3.objects import look_at, version_of
from indexer.storage.scratch import WAIT_SECONDS, scratch_file

COPY_BYTES = 16 << 20
"""An object up to this size is copied: one request, and its checksum can be verified."""
_REPLACED_ALLOWED = 3


class S3VideoFile:
    """See `VideoFile` for the contract."""

    def __init__(self, s3: S3, video: Video, stack: ExitStack, *, wait_seconds: float) -> None:
        self.path: str | None = None
        self._s3 = s3
        self._video = video
        self._stack = stack
        self._blocks: Blocks | None = None
        if video.size_bytes <= COPY_BYTES:
            self.path = self._copy(wait_seconds)
        else:
            self._blocks = stack.enter_context(Blocks(s3, version_of(video), explain=video_fault))
            self._blocks.read(0, 1)

    def open(self) -> BinaryIO:
        if self._blocks is None:
            return open(self.whole(), "rb")  # noqa: PTH123  the caller closes it
        return self._blocks.open()

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        if self._blocks is not None:
            self._blocks.expect(ranges)

    def whole(self) -> str:
        if self.path is None:
            self.path = self._copy(WAIT_SECONDS)
        return self.path

    def _copy(self, wait_seconds: float) -> str:
        copy = self._stack.enter_context(scratch_file(self._video.size_bytes, wait_seconds=wait_seconds))
        try:
            download(self._s3, version_of(self._video), copy)
        except S3Fault as fault:
            raise video_fault(fault) from fault
        return str(copy)

    def check(self) -> None:
        """Raise what went wrong while it was read: a decoder may have taken it for the end of the file."""
        if self._blocks is not None and self._blocks.fault is not None:
            raise self._blocks.fault

    @property
    def bytes_fetched(self) -> int:
        copied = self._video.size_bytes if self.path else 0
        return copied + (self._blocks.bytes_fetched if self._blocks else 0)

    @property
    def wait_seconds(self) -> float:
        return self._blocks.wait_seconds if self._blocks else 0.0


@contextmanager
def s3_video_file(s3: S3, video: Video, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[tuple[Video, S3VideoFile]]:
    """`video` as it is now, and its bytes. Raises Changed if it is replaced while they are read."""
    with ExitStack() as stack:
        now, file = _open(s3, video, stack, wait_seconds)
        try:
            yield now, file
        except Exception:  # of any kind: if the object was replaced meanwhile, that is why
            file.check()
            raise
        file.check()


def look_again(s3: S3, video: Video) -> Video:
    """What is at the address of `video` now. Raises what `video_fault` gives."""
    try:
        return look_at(s3, version_of(video).address)
    except S3Fault as fault:
        raise video_fault(fault) from fault


def video_fault(fault: S3Fault) -> IndexerError:
    """What a fault means for the video that is read, or for the whole run."""
    match fault.kind:
        case "gone":
            return VideoSkip("gone")
        case "changed":
            return Changed("was replaced while it was read")
        case "denied":
            return AccessDenied(f"may not be read with these credentials: {fault}")
        case "archived":
            return Archived(f"lies in cold storage: {fault}")
        case "no_bucket":
            return SourceError(f"The bucket of the source is no longer there: {fault}")
    return SourceFault(f"could not be fetched: {fault}")


def _open(s3: S3, video: Video, stack: ExitStack, wait_seconds: float) -> tuple[Video, S3VideoFile]:
    for _ in range(_REPLACED_ALLOWED):
        try:
            return video, S3VideoFile(s3, video, stack, wait_seconds=wait_seconds)
        except Changed:
            stack.close()
            video = look_again(s3, video)
    raise Changed("is replaced again and again")
