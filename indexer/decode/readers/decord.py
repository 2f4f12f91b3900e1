"""The decord reader (the maintained `decord2` build): sequential reads, whole RGB frames, the exact way of preprocessing.

decord's own frame times are float32, lack the stream's start, and are garbage where a container stores no pts. So the times
come from the packets, and decord must agree with them: else the file is refused.

In a process that uses torch, too, torch must be loaded first: decord brings libraries that make it crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np

from indexer.decode.containers import open_container
from indexer.decode.preprocess import Sampler, quarter_turns
from indexer.decode.probe import OpenVideo
from indexer.decode.readers.timetable import Timetable, read_timetable
from indexer.errors import ReaderRefused

if TYPE_CHECKING:
    import decord
    from numpy.typing import NDArray

_AGREEMENT_SECONDS = 0.005
_FRAMES_LOOKED_AT = 5


class DecordReader:
    """See `Reader` for the contract."""

    def __init__(self, video: OpenVideo, sampler: Sampler) -> None:
        import decord

        _check_shown_alike(video)
        self._video = video
        self._sampler = sampler
        self._times = read_timetable(video)
        try:
            decord.logging.set_level(decord.logging.QUIET)
            self._reader = decord.VideoReader(video.path, num_threads=1)
        except (decord.DECORDError, RuntimeError, UnicodeEncodeError) as error:
            raise ReaderRefused(f"decord cannot open it: {str(error).splitlines()[0]}") from error
        _check_agreement(self._reader, self._times)
        self._ended = False
        self.quarter_turns = 0

    @property
    def end_seconds(self) -> float | None:
        return self._times.end_seconds if self._ended else None

    @property
    def warnings(self) -> tuple[str, ...]:
        return ()

    def pictures(self, times: Iterable[float]) -> Iterator[NDArray[np.uint8] | None]:
        read, number, picture = 0, -1, None
        for wanted in times:
            found, shown = self._times.number_at(wanted)
            self._ended |= self._times.is_last(found)
            if not shown:
                yield None
                continue
            if found != number:
                frame = None
                while read <= found:
                    frame = self._read()
                    read += 1
                assert frame is not None  # `found` only ever grows
                rgb = frame.asnumpy()
                # decord turns pictures itself, so only the shape tells.
                self.quarter_turns = int(rgb.shape[0] != self._video.stream.codec_context.height)
                picture, number = self._sampler.from_rgb(rgb), found
            yield picture

    def _read(self) -> decord.ndarray.NDArray:
        import decord

        try:
            return self._reader.next()
        except (StopIteration, decord.DECORDError, RuntimeError) as error:
            raise ReaderRefused("decord lost its place in this file: a damaged or missing frame") from error


def _check_shown_alike(video: OpenVideo) -> None:
    """Refuse what decord turns into other pictures than we do. By the first frames: what they are, the others mostly are."""
    if video.clock == "joined":
        raise ReaderRefused("its clock begins anew somewhere, which decord takes for frames out of order")
    with open_container(video.path) as source, suppress(av.error.FFmpegError):
        for frame in islice(source.decode(source.streams[video.stream.index]), _FRAMES_LOOKED_AT):
            assert isinstance(frame, av.VideoFrame)
            if frame.interlaced_frame:
                raise ReaderRefused("it is interlaced, and decord shows the lines of two moments at once")
            if video.aspect != 1 and quarter_turns(frame) % 2:
                raise ReaderRefused("its pixels are not square and its pictures turned, which decord turns before we know")


def _check_agreement(reader: decord.VideoReader, table: Timetable) -> None:
    times = table.seconds
    stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    if len(stamps) != len(times):
        raise ReaderRefused(f"decord sees {len(stamps)} frames where the container has {len(times)}")
    start = times[0]
    # decord keeps times as float32, which is coarser the longer the video.
    allowed = _AGREEMENT_SECONDS + abs(times[-1]) * 2**-22
    if stamps[0] < 0 or np.abs(stamps - (np.array(times) - start)).max() > allowed:
        raise ReaderRefused("decord's frame times do not agree with the container's")
