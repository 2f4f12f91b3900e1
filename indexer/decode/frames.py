"""A picture of a video, and a small copy of a part of it: for people to look at, in any browser."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.codec import CodecContext
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from indexer.decode.encode import BACK_SECONDS, encode, seek
from indexer.decode.preprocess import quarter_turns
from indexer.decode.probe import OpenVideo, open_video
from indexer.decode.readers import TIME_TOLERANCE_SECONDS
from indexer.decode.readers.pyav import FrameClock
from indexer.errors import Corrupt, OutputError
from indexer.storage.fetch import VideoFile

_JPEG_QUALITY = 5
"""Of FFmpeg's scale, 2 (best) to 31."""


def jpeg_at(source: str | VideoFile, seconds: float, *, width: int, max_pixels: int) -> bytes:
    """The picture that is shown at this time, as JPEG, upright and at most `width` pixels wide; after the end, the last one.

    Raises VideoError or VideoSkip if there is none.
    """
    opened = open_video(source, max_pixels=max_pixels)
    try:
        frame = _shown_at(opened, seconds)
        turns = quarter_turns(frame)
        shown = [round(frame.width * opened.aspect), frame.height]
        across = shown[turns % 2]
        scale = min(1.0, width / across)
        wide, high = (max(2, round(side * scale / 2) * 2) for side in shown)
        return _jpeg(frame, wide, high, turns)
    except av.error.FFmpegError as error:
        raise Corrupt(f"cannot be decoded: {error}") from error
    finally:
        opened.close()


def small_copy(
    source: str | VideoFile, target: Path, start_seconds: float, end_seconds: float, *, height: int, max_pixels: int
) -> None:
    """Write [start, end) to `target` as an MP4 that every browser plays, at most `height` pixels high.

    Raises VideoError or VideoSkip if the source cannot be read, OutputError. What it has written by then may stay.
    """
    opened = open_video(source, max_pixels=max_pixels)
    try:
        with av.open(f"file:{target}", "w", format="mp4", options={"movflags": "+faststart"}) as out:
            encode(opened, out, start_seconds, end_seconds, height=height)
    except av.error.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{target}: no space left") from error
        raise Corrupt(f"cannot be copied: {error}") from error
    finally:
        opened.close()


def _shown_at(opened: OpenVideo, seconds: float) -> av.VideoFrame:
    """Raises Corrupt if no picture comes out."""
    for back_seconds in (*BACK_SECONDS, None) if opened.clock == "pts" and seconds > 0 else (None,):
        if opened.clock == "pts":
            seek(opened.container, opened, 0.0 if back_seconds is None else seconds - back_seconds)
        shown = None
        for at, frame in _frames(opened):
            late = at > seconds + TIME_TOLERANCE_SECONDS
            if shown is None and back_seconds is not None and (late or not frame.key_frame):
                if late:
                    break  # the key frame lies further back
                continue
            if shown is not None and late:
                return shown
            shown = frame
        if shown is not None:
            return shown
    raise Corrupt("is damaged: no picture of it can be decoded")


def _frames(opened: OpenVideo) -> Iterator[tuple[float, av.VideoFrame]]:
    """From where the container is. A damaged packet costs its own frames, not those around it."""
    clock = FrameClock(opened)
    opened.stream.thread_type = "AUTO"
    for packet in opened.container.demux(opened.stream):
        clock.note(packet)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            yield clock.seconds(frame), frame


def _jpeg(frame: av.VideoFrame, width: int, height: int, turns: int) -> bytes:
    pixels: NDArray[Any] = frame.to_ndarray(width=width, height=height, format="rgb24")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(pixels, turns)), format="rgb24")
    picture = picture.reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG)
    codec = CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, "yuvj420p"
    codec.color_range = ColorRange.JPEG
    codec.time_base = picture.time_base = Fraction(1, 25)
    codec.qmin = codec.qmax = _JPEG_QUALITY
    return b"".join(bytes(packet) for packet in (*codec.encode(picture), *codec.encode(None)))
