"""Open a video and read what its container says, without decoding: which stream, how long, how big, how to read its times."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from indexer.decode.containers import cut_short, open_container, why_undecodable
from indexer.decode.packets import PacketScan, is_joined, scan_packets
from indexer.decode.sniff import SNIFF_BYTES, refuse_foreign
from indexer.errors import AccessDenied, Corrupt, EmptyFile, TooBig, Truncated, VideoSkip
from indexer.records import MediaInfo
from indexer.storage.fetch import LocalFile, VideoFile

MIN_SIDE_PIXELS = 16
_ATTACHED_PICTURE = 0x400
_DEFAULT_FPS = 25.0

Clock = Literal["pts", "joined", "decode_order", "counted"]
"""Where the times of frames come from: their pts; their pts, going on where they jump back (see `packets`); the packets' dts
in order (AVI stores no pts); counted at the frame rate."""


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
    container = open_container(file, max_pixels=max_pixels)
    try:
        stream, warnings = _best_stream(file, container)
        return _describe(file, container, stream, warnings, max_pixels)
    except Exception:  # whatever went wrong, the file must not stay open; the error goes on unchanged
        container.close()
        raise


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


def _best_stream(file: VideoFile, container: InputContainer) -> tuple[VideoStream, list[str]]:
    moving = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
    if not moving:
        raise cut_short(file) or VideoSkip("no_video")
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
    width, height = codec.width, codec.height
    if not width * height:  # some decoders forget a size that is not allowed
        with open_container(file, blind=True) as unseen:
            sides = [(s.codec_context.width, s.codec_context.height) for s in unseen.streams.video if s.index == stream.index]
            width, height = max(sides, default=(0, 0))
    if width * height > max_pixels:
        raise TooBig(f"has pictures of {width}x{height}; decode.max_pixels allows {max_pixels:,} pixels")
    if 0 < min(codec.width, codec.height) < MIN_SIDE_PIXELS:
        raise VideoSkip("too_small")
    average, guessed = _rate(stream.average_rate), _rate(stream.guessed_rate)
    fps = guessed or average or _DEFAULT_FPS
    clock, scan = _clock(file, container, stream, fps)
    if clock in ("joined", "counted"):
        warnings.append("W_TIMESTAMPS")
    first = None if stream.start_time is None or stream.time_base is None else float(stream.start_time * stream.time_base)
    if scan is not None and scan.start_seconds is not None:
        first = scan.start_seconds
    origin, start = 0.0, 0.0
    if clock in ("pts", "joined") and first is not None:
        origin = first if container.start_time is None else container.start_time / av.time_base
        start = first - origin
    sample_aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    # Whether the picture is to be turned is known with the first frame only: `decode_video` corrects the size then.
    info = MediaInfo(
        start_seconds=start,
        duration_seconds=_duration(file, container, stream, start, clock, fps, scan),
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


def _clock(file: VideoFile, container: InputContainer, stream: VideoStream, fps: float) -> tuple[Clock, PacketScan | None]:
    """How the times of frames are known; and what the packets say, where they had to be asked."""
    if container.format.name == "avi":
        return "decode_order", None
    if stream.start_time is None:  # of a stream without times, and of one that was cut after some frames
        scan = scan_packets(file, stream.index, fps)
        return "counted" if scan.start_seconds is None else "pts", scan
    if is_joined(file, container, stream.index):
        return "joined", scan_packets(file, stream.index, fps)
    return "pts", None


def _duration(
    file: VideoFile,
    container: InputContainer,
    stream: VideoStream,
    start_seconds: float,
    clock: Clock,
    fps: float,
    scan: PacketScan | None,
) -> float:
    """Seconds from the first frame to the end of the last: by the stream, else the container, else its packets.

    Raises VideoError if there is no packet. How much is there of what is claimed, decoding finds out.
    """
    claimed = 0.0 if container.duration is None else container.duration / av.time_base
    if clock in ("pts", "decode_order"):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if stated_end := _tagged_end_seconds(stream, start_seconds):
            claimed = min(claimed, stated_end) if claimed else stated_end
        if claimed:
            return max(claimed - start_seconds, 1 / fps)
    scan = scan or scan_packets(file, stream.index, fps)
    if not scan.packets:
        raise Truncated(f"holds no frame of the {claimed:.1f} s that it claims") if claimed else why_undecodable(file)
    return scan.packets / fps if scan.start_seconds is None else scan.end_seconds - scan.start_seconds


def _tagged_end_seconds(stream: VideoStream, start_seconds: float) -> float:
    """Where the stream ends by its own tag: Matroska has a length of the whole file only, which may be that of the sound.

    FFmpeg writes the end of the stream into it, mkvmerge how long it is. 0 where there is none.
    """
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d*)?)", stream.metadata.get("DURATION", ""))
    if found is None:
        return 0.0
    seconds = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return seconds + (start_seconds if "_STATISTICS_TAGS" in stream.metadata else 0.0)
