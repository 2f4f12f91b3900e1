"""Readers: an opened video and a list of times in, the pictures shown at those times out.

Every reader keeps one contract, and one test runs all of them over the same files: for the same time the same frame, or the
reader refuses the file (`ReaderRefused`). To add one, write its module and name it in `open_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from indexer.decode.keyframes import KeyFrames
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import OpenVideo
from indexer.errors import ReaderRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIME_TOLERANCE_SECONDS = 0.0005
"""A frame counts as shown this long before its time: container clocks tick in milliseconds or worse, ours in floats."""


class Reader(Protocol):
    """Reads one video once, forwards."""

    def pictures(self, times: Iterable[float]) -> Iterator[NDArray[np.uint8] | None]:
        """One picture [h, w, 3] for each of the ascending `times` (seconds): the last frame whose time is <= the wanted one.

        Before the first frame that is the first frame. None where nothing is shown: after the end, or in a hole of the
        recording longer than `hold_limit`. The same array may come several times; do not write to it.
        """
        ...

    @property
    def end_seconds(self) -> float | None:
        """When the last frame ends, once the reader has met the end of the file; else None."""
        ...

    @property
    def quarter_turns(self) -> int:
        """How often the stored picture is turned by 90 degrees to be shown upright; known after the first picture."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]: ...


def hold_limit(fps: float) -> float:
    """How long a frame may stand for what comes after it, in seconds, before that time counts as not recorded."""
    return max(5.0, 3.0 / fps)


def can_seek(backend: str) -> bool:
    """Whether a part of a file costs it a part of the work: decord decodes from the start, nvdec reads all packets first."""
    return backend not in ("decord", "nvdec")


def open_reader(backend: str, video: OpenVideo, key_frames: KeyFrames, sampler: Sampler, *, must_seek: bool = False) -> Reader:
    """`backend` is `auto`, `pyav`, `decord` or `nvdec`, as decode.backend in the job file. What nvdec refuses, pyav reads.

    With `must_seek`, it raises RangeLost where it would have to read the file from its start to find a wanted time.
    """
    if backend == "decord":
        from indexer.decode.readers.decord import DecordReader

        return DecordReader(video, sampler)
    from indexer.decode.readers.pyav import PyavReader

    def pyav() -> Reader:
        return PyavReader(video, key_frames, sampler, must_seek=must_seek)

    if backend == "nvdec":
        from indexer.decode.readers.nvdec import NvdecReader

        with suppress(ReaderRefused):
            return NvdecReader(video, sampler, pyav)
    return pyav()
