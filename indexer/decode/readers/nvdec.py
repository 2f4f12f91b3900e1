"""The nvdec reader: pictures are decoded, and made small, on an NVIDIA GPU, by torchcodec (`pip install torchcodec`).

It takes what every NVDEC decodes and torchcodec converts as we mean it, progressive 8-bit 4:2:0 that is not turned, and
refuses the rest; `open_reader` then takes pyav for that file. Where it loses its place in the middle, pyav goes on from there.

Frame times come from the packets, and what is decoded must agree with them. Without a GPU, its tests decode on the CPU.

A process that has loaded decord, too, may crash: each brings an FFmpeg of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING

import av
import av.error
from av.video.stream import VideoStream

from indexer.decode.containers import open_container
from indexer.decode.preprocess import Sampler, quarter_turns, resized_size
from indexer.decode.probe import OpenVideo
from indexer.decode.readers import TIME_TOLERANCE_SECONDS, Reader
from indexer.decode.readers.timetable import read_timetable
from indexer.errors import ReaderRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_FORMATS = ("yuv420p", "yuvj420p")
_COLOUR_SPACES = (1, 2, 5, 6)
"""BT.709, unspecified, and both names of BT.601, by FFmpeg's AVColorSpace."""
_HDR_TRANSFERS = (16, 18)
_BATCH_BYTES = 32 << 20
_BATCH_FRAMES = 64
"""So many whole pictures of one file lie on the GPU at once, at most; five times as many bytes while they are made small."""


@cache
def why_unusable(device: str) -> str | None:
    """Why nothing can be decoded on `device` in this process; None if it can. Prepares the device, so that it is ready."""
    if device == "cuda" and os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "this process may not see a GPU"  # to find that out, torch need not be loaded
    try:
        import torch
        import torchcodec.decoders  # noqa: F401  loads its libraries, which need FFmpeg's

        torch.zeros(1, device=device)
    except Exception as error:  # noqa: BLE001  a missing library, driver or GPU may raise anything
        return f"torchcodec cannot be used on {device}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None


class NvdecReader:
    """See `Reader` for the contract."""

    def __init__(self, video: OpenVideo, sampler: Sampler, resort: Callable[[], Reader], *, device: str = "cuda") -> None:
        """`resort` opens the reader that goes on where this one loses its place. Raises ReaderRefused."""
        if reason := why_unusable(device):
            raise ReaderRefused(reason)
        _check_picture(_first_frame(video))
        from torchcodec.decoders import VideoDecoder

        self._video = video
        self._sampler = sampler
        self._resort = resort
        self._resorted: Reader | None = None
        self._table = read_timetable(video)
        self._ended = False
        path = video.path
        try:
            self._decoder = VideoDecoder(path, stream_index=video.stream.index, device=device)
            self._decoder.get_frame_at(0)
        except Exception as error:  # torchcodec raises what it likes
            raise ReaderRefused(f"torchcodec cannot decode it: {str(error).splitlines()[0]}") from error
        if device != "cpu" and self._decoder.cpu_fallback:
            raise ReaderRefused("this GPU does not decode it")
        if (frames := len(self._decoder)) != len(self._table.seconds):
            raise ReaderRefused(f"torchcodec sees {frames} frames where the container has {len(self._table.seconds)}")

    @property
    def end_seconds(self) -> float | None:
        if self._resorted is not None:
            return self._resorted.end_seconds
        return self._table.end_seconds if self._ended else None

    @property
    def quarter_turns(self) -> int:
        return 0

    @property
    def warnings(self) -> tuple[str, ...]:
        return () if self._resorted is None else self._resorted.warnings

    def pictures(self, times: Iterable[float]) -> Iterator[NDArray[np.uint8] | None]:
        coming = iter(times)
        shape = self._video.stream.codec_context
        size = max(1, min(_BATCH_FRAMES, _BATCH_BYTES // (3 * shape.width * shape.height)))
        while wanted := list(islice(coming, size)):
            found = [self._table.number_at(at) for at in wanted]
            numbers = sorted({number for number, shown in found if shown})
            try:
                pictures = dict(zip(numbers, self._pictures(numbers), strict=True))
            except Exception:  # noqa: BLE001  damage, or a GPU without memory: pyav knows what is to be said of it
                self._resorted = self._resort()
                yield from self._resorted.pictures(chain(wanted, coming))
                return
            self._ended |= self._table.is_last(found[-1][0])
            yield from (pictures[number] if shown else None for number, shown in found)

    def _pictures(self, numbers: list[int]) -> Iterable[NDArray[np.uint8]]:
        """Raises whatever torchcodec raises, or ReaderRefused if it gives other frames than asked for."""
        if not numbers:
            return ()
        frames = self._decoder.get_frames_at(numbers)
        for number, seconds in zip(numbers, frames.pts_seconds.tolist(), strict=True):
            if abs(seconds - self._video.origin_seconds - self._table.seconds[number]) > TIME_TOLERANCE_SECONDS:
                raise ReaderRefused("torchcodec gives another frame than the container names")
        return self._small(frames.data)

    def _small(self, frames: Tensor) -> NDArray[np.uint8]:
        """[n, 3, H, W] uint8, wherever it is -> [n, height, width, 3] of the crop, in this process's memory."""
        from torch.nn.functional import interpolate

        geometry, (height, width) = self._sampler.geometry, frames.shape[2:]
        resized = resized_size(height, round(width * self._sampler.aspect), geometry.resize)
        top, left = (round((whole - crop) / 2.0) for whole, crop in zip(resized, geometry.crop, strict=True))
        scaled = interpolate(frames.float(), size=resized, mode="bilinear", align_corners=False)
        cropped = scaled[:, :, top : top + geometry.crop[0], left : left + geometry.crop[1]]
        pixels: NDArray[np.uint8] = cropped.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels


def _first_frame(video: OpenVideo) -> av.VideoFrame:
    """Tells what no header does: turned, interlaced, how colours are meant. Raises ReaderRefused if there is none."""
    with open_container(video.file) as container:
        stream = container.streams[video.stream.index]
        assert isinstance(stream, VideoStream)  # it is in `video`
        stream.codec_context.thread_count = 1
        with suppress(av.error.FFmpegError):
            for frame in container.decode(stream):
                return frame
    raise ReaderRefused("its first packets are damaged")


def _check_picture(frame: av.VideoFrame) -> None:
    """Raises ReaderRefused for pictures that a player shows in another way than torchcodec hands them out."""
    if quarter_turns(frame):
        raise ReaderRefused("its pictures are turned")
    if frame.interlaced_frame:
        raise ReaderRefused("its pictures are interlaced")
    if frame.format.name not in _FORMATS or int(frame.colorspace) not in _COLOUR_SPACES or frame.color_trc in _HDR_TRANSFERS:
        raise ReaderRefused(f"its colours are not the usual ones ({frame.format.name})")
