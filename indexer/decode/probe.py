"""Open a container and read what it says, without decoding: which stream, how long, how big, how its times are to be read.

Only local regular files are opened, and only containers and protocols of the lists below, whatever a file claims to be.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
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
from indexer.storage.fetch import LocalFile, VideoFile

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

    file: VideoFile
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

    @property
    def path(self) -> str:
        """A local file with all the bytes, for what cannot read another way; an object is fetched to its end now."""
        return self.file.whole()

    def close(self) -> None:
        self.container.close()


def open_video(source: str | VideoFile, *, max_pixels: int) -> OpenVideo:
    """Open `source`, a path or an open file, and choose its best video stream.

    Raises VideoError for what cannot be indexed and VideoSkip for what has nothing to index.
    """
    file = LocalFile(source) if isinstance(source, str) else source
    _check_file(file)
    container = open_container(file)
    try:
        stream, warnings = _best_stream(container)
        return _describe(file, container, stream, warnings, max_pixels)
    except Exception:  # whatever went wrong, the file must not stay open; the error goes on unchanged
        container.close()
        raise


def is_encrypted(file: VideoFile) -> bool:
    """Whether `file` is an MP4 that declares its video encrypted. Decoders may still make (grey, broken) pictures of it."""
    with file.open() as stream:
        return is_encrypted_mp4(stream)


def explain_unreadable(file: VideoFile) -> VideoError:
    """Why no frame comes out of `file`: encrypted, cut, damaged, or no media at all."""
    with file.open() as stream:
        boxes = mp4_boxes(stream)
        kinds = {kind for kind, _, _ in boxes}
        if "moov" not in kinds and "mdat" in kinds and "moof" not in kinds:
            return Truncated("the recording was cut: its index (the moov box) is missing, so no frame can be found")
        if "moov" in kinds and is_encrypted_mp4(stream):
            return Encrypted("the video stream is encrypted (common encryption)")
        if "moov" in kinds or "moof" in kinds:
            return Corrupt("is damaged: the container is there, but no frame can be decoded")
    return NotMedia("is not a video: no known container format in it")


def _check_file(file: VideoFile) -> None:
    """Refuse by `stat` and first bytes what must not reach a decoder: a fifo would hang it, a playlist would lead it away."""
    try:
        if file.path is not None and not stat.S_ISREG(os.stat(file.path).st_mode):  # noqa: PTH116  not all paths are UTF-8
            raise VideoSkip("not_regular")
        with file.open() as stream:
            head = stream.read(SNIFF_BYTES)
        if not head:
            raise EmptyFile("has 0 bytes")
        refuse_foreign(head)
    except FileNotFoundError:
        raise VideoSkip("gone") from None
    except PermissionError:
        raise AccessDenied("may not be read by this user") from None
    except OSError as error:
        raise Corrupt(f"cannot be read from its disk: {error.strerror}") from error


def open_container(source: str | VideoFile) -> InputContainer:
    """Open a file with the allow-lists. Raises VideoError with the reason it cannot be opened."""
    file = LocalFile(source) if isinstance(source, str) else source
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS}
    try:
        # "file:" keeps a name like "a:b.mp4" from being taken for a protocol. The bytes of an object are read through Python:
        # FFmpeg never sees an address.
        return av.open(file.open() if file.path is None else "file:" + file.path, mode="r", options=options)
    except av.error.InvalidDataError:
        raise explain_unreadable(file) from None
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


def _describe(
    file: VideoFile, container: InputContainer, stream: VideoStream, warnings: list[str], max_pixels: int
) -> OpenVideo:
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
        duration_seconds=_duration(file, container, stream, start, clock, fps),
        width=round(codec.width * sample_aspect),
        height=codec.height,
        codec=codec.codec.canonical_name,
        average_fps=average or fps,
    )
    return OpenVideo(file, container, stream, info, clock, origin, fps, sample_aspect, tuple(warnings))


def _rate(rate: object) -> float:
    """A believable frame rate, or 0: some containers (DV) claim their tick rate."""
    value = float(rate) if rate else 0.0  # type: ignore[arg-type]
    return value if 0 < value <= 1000 else 0.0


def _duration(
    file: VideoFile, container: InputContainer, stream: VideoStream, start_seconds: float, clock: Clock, fps: float
) -> float:
    """Seconds from the first frame to the end of the last: by the stream, else the container, else a scan of all packets."""
    if clock != "counted":
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return max(container.duration / av.time_base - start_seconds, 1 / fps)
    # A container of its own: not every format can be wound back.
    with open_container(file) as scan:
        packets = sum(1 for packet in scan.demux(scan.streams[stream.index]) if packet.size)
    return packets / fps
