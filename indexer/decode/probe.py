"""Open a container and read what it says, without decoding: which stream, how long, how big, how its times are to be read.

Only local regular files are opened, and only containers and protocols of the lists below, whatever a file claims to be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

from indexer.decode.sniff import SNIFF_BYTES, is_encrypted_mp4, mp4_boxes, refuse_foreign
from indexer.errors import (
    AccessDenied,
    Corrupt,
    EmptyFile,
    Encrypted,
    FormatRefused,
    NotMedia,
    TooBig,
    Truncated,
    VideoError,
    VideoSkip,
)
from indexer.records import MediaInfo

# What a decoder has to say about a damaged file ends in our codes; its own lines would tear the progress display.
av.logging.set_level(av.logging.PANIC)

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,dv,h264,hevc,gif,ivf,obu,nut,y4m"
)
PROTOCOLS = "file"
MIN_SIDE_PIXELS = 16
_ATTACHED_PICTURE = 0x400
_DEFAULT_FPS = 25.0

Clock = Literal["pts", "decode_order", "counted"]
"""Where the times of frames come from: their pts; the packets' dts in order (AVI stores no pts); counted at the frame rate."""


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An opened container with its best video stream. Close it."""

    path: str
    container: InputContainer
    stream: VideoStream
    info: MediaInfo
    clock: Clock
    origin_seconds: float
    """Container time that a player shows as 0."""
    guessed_fps: float
    """The rate that frames are stored at, where `info.average_fps` is bent by gaps."""
    aspect: float
    """How much wider than high a stored pixel is shown."""
    warnings: tuple[str, ...]

    def close(self) -> None:
        self.container.close()


def open_video(path: str, *, max_pixels: int) -> OpenVideo:
    """Open `path` and choose its best video stream.

    Raises VideoError for what cannot be indexed and VideoSkip for what has nothing to index.
    """
    _check_file(path)
    container = open_container(path)
    try:
        stream, warnings = _best_stream(container)
        return _describe(path, container, stream, warnings, max_pixels)
    except Exception:  # whatever went wrong, the file must not stay open; the error goes on unchanged
        container.close()
        raise


def is_encrypted(path: str) -> bool:
    """Whether `path` is an MP4 that declares its video encrypted. Decoders may still make (grey, broken) pictures of it."""
    with Path(path).open("rb") as file:
        return is_encrypted_mp4(file)


def explain_unreadable(path: str) -> VideoError:
    """Why no frame comes out of `path`: encrypted, cut, damaged, or no media at all."""
    with Path(path).open("rb") as file:
        boxes = mp4_boxes(file)
        kinds = {kind for kind, _, _ in boxes}
        if "moov" not in kinds and "mdat" in kinds and "moof" not in kinds:
            return Truncated("the recording was cut: its index (the moov box) is missing, so no frame can be found")
        if "moov" in kinds and is_encrypted_mp4(file):
            return Encrypted("the video stream is encrypted (common encryption)")
        if "moov" in kinds or "moof" in kinds:
            return Corrupt("is damaged: the container is there, but no frame can be decoded")
    return NotMedia("is not a video: no known container format in it")


def _check_file(path: str) -> None:
    """Refuse by `stat` and first bytes what must not reach a decoder: a fifo would hang it, a playlist would lead it away."""
    try:
        status = os.stat(path)  # noqa: PTH116  a str path may hold bytes that are not UTF-8
        if not os.path.isfile(path):  # noqa: PTH113
            raise VideoSkip("not_regular")
        if status.st_size == 0:
            raise EmptyFile("has 0 bytes")
        with Path(path).open("rb") as file:
            refuse_foreign(file.read(SNIFF_BYTES))
    except FileNotFoundError:
        raise VideoSkip("gone") from None
    except PermissionError:
        raise AccessDenied("may not be read by this user") from None
    except OSError as error:
        raise Corrupt(f"cannot be read from its disk: {error.strerror}") from error


def open_container(path: str) -> InputContainer:
    """Open a local file with the allow-lists. Raises VideoError with the reason it cannot be opened."""
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS}
    try:
        # "file:" keeps a name like "a:b.mp4" from being taken for a protocol.
        return av.open("file:" + path, mode="r", options=options)
    except av.error.InvalidDataError:
        raise explain_unreadable(path) from None
    except av.error.ArgumentError:
        raise FormatRefused("is not one of the video containers that are opened") from None
    except (av.error.FFmpegError, MemoryError) as error:
        # A damaged header can ask for more memory than there is; that is the file's fault, not the machine's.
        raise Corrupt(f"cannot be opened: {error}") from error


def _best_stream(container: InputContainer) -> tuple[VideoStream, list[str]]:
    moving = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
    if not moving:
        raise VideoSkip("no_video")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in moving else moving[0]
    return stream, ["W_MULTI_VIDEO"] if len(moving) > 1 else []


def _describe(path: str, container: InputContainer, stream: VideoStream, warnings: list[str], max_pixels: int) -> OpenVideo:
    # A stream that no decoder claims has no codec context at all.
    codec = stream.codec_context
    if codec is None:
        raise Corrupt("is damaged: its video stream names no known codec")
    if codec.width * codec.height > max_pixels:
        raise TooBig(f"has pictures of {codec.width}x{codec.height}; decode.max_pixels allows {max_pixels:,} pixels")
    if 0 < min(codec.width, codec.height) < MIN_SIDE_PIXELS:
        raise VideoSkip("too_small")
    average, guessed = _rate(stream.average_rate), _rate(stream.guessed_rate)
    fps = guessed or average or _DEFAULT_FPS
    clock: Clock = "pts"
    if container.format.name == "avi":
        clock = "decode_order"
    elif stream.start_time is None:
        clock = "counted"
        warnings.append("W_TIMESTAMPS")
    origin = 0.0 if container.start_time is None or clock != "pts" else container.start_time / av.time_base
    start = 0.0
    if clock == "pts" and stream.start_time is not None and stream.time_base is not None:
        start = float(stream.start_time * stream.time_base) - origin
    sample_aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    # Whether the picture is to be turned is known with the first frame only: `decode_video` corrects the size then.
    info = MediaInfo(
        start_seconds=start,
        duration_seconds=_duration(path, container, stream, start, clock, fps),
        width=round(codec.width * sample_aspect),
        height=codec.height,
        codec=codec.codec.canonical_name,
        average_fps=average or fps,
    )
    return OpenVideo(path, container, stream, info, clock, origin, fps, sample_aspect, tuple(warnings))


def _rate(rate: object) -> float:
    """A believable frame rate, or 0: some containers (DV) claim their tick rate."""
    value = float(rate) if rate else 0.0  # type: ignore[arg-type]
    return value if 0 < value <= 1000 else 0.0


def _duration(
    path: str, container: InputContainer, stream: VideoStream, start_seconds: float, clock: Clock, fps: float
) -> float:
    """Seconds from the first frame to the end of the last: by the stream, else the container, else a scan of all packets."""
    if clock != "counted":
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return max(container.duration / av.time_base - start_seconds, 1 / fps)
    # A container of its own: not every format can be wound back.
    with open_container(path) as scan:
        packets = sum(1 for packet in scan.demux(scan.streams[stream.index]) if packet.size)
    return packets / fps
