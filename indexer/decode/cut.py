"""Cut a part out of a video into a file of its own: its packets as they are where that is exact, else encoded anew.

    key frames      K . . . . . . . K . . . . . . . K . . .
    packets copied                  [---------------)           from a key frame on, to where no kept picture needs a later one
    encoded anew          [------------)                        anywhere else

Times are seconds of the source, as a player shows them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from indexer.decode.containers import open_container
from indexer.decode.encode import AUDIO_LAG_SECONDS, BACK_SECONDS, audible, encode, seek
from indexer.decode.probe import OpenVideo, open_video
from indexer.decode.readers import TIME_TOLERANCE_SECONDS
from indexer.errors import ConfigError, Corrupt, OutputError
from indexer.storage.fetch import VideoFile

SUFFIXES = (".mp4", ".mov", ".mkv")
"""Of files that both H.264 and what cameras write can be put into."""

_ROUNDED_SECONDS = 0.001
"""Moments are told in milliseconds."""
_ANY_SIZE = 1 << 40


class Cut(NamedTuple):
    """What was written, in seconds of the source."""

    start_seconds: float
    end_seconds: float
    copied: bool
    """Whether packets were copied, so that no quality was lost."""


def cut(source: str | VideoFile, target: Path, start_seconds: float, end_seconds: float, *, copy: bool = False) -> Cut:
    """Write [start, end) of a video to `target`, which appears whole or not at all, and replaces another.

    The first picture is the one that is shown at the start, or with `copy` the key frame before it. All sound is kept.
    Raises VideoError or VideoSkip if the source cannot be read, ConfigError if it has no such part, OutputError.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{target}: a clip is written to a file whose name ends in one of {', '.join(SUFFIXES)}")
    opened = open_video(source, max_pixels=_ANY_SIZE)
    try:
        ends = opened.info.start_seconds + opened.info.duration_seconds
        if start_seconds >= ends - TIME_TOLERANCE_SECONDS:
            name = source if isinstance(source, str) else "the video"
            raise ConfigError(f"{name} ends at {ends:.3f} s: it has nothing at {start_seconds:.3f} s")
        end_seconds = min(end_seconds, ends)
        key_seconds, clean = _key_before(opened, start_seconds, end_seconds)
        if key_seconds is not None and (copy or (clean and abs(key_seconds - start_seconds) < 0.5 / opened.guessed_fps)):
            # Not every container holds every codec: then there is the other way.
            with suppress(av.error.FFmpegError, ValueError), _written_whole(target) as out:
                _copy(opened, out, key_seconds, end_seconds)
                return Cut(key_seconds, end_seconds, copied=True)
        with _written_whole(target) as out:
            encode(opened, out, start_seconds, end_seconds)
        return Cut(start_seconds, end_seconds, copied=False)
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(f"{target}: no space left") from error
        raise Corrupt(f"cannot be cut: {error}") from error
    finally:
        opened.close()


@contextmanager
def _written_whole(target: Path) -> Iterator[OutputContainer]:
    """A file beside `target` that takes its name when the block ends well."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    container_format = "matroska" if target.suffix.lower() == ".mkv" else target.suffix.lower()[1:]
    try:
        part.touch()  # FFmpeg would say it later, and less well
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        options = {} if container_format == "matroska" else {"movflags": "+faststart"}
        with av.open(f"file:{part}", "w", format=container_format, options=options) as out:
            yield out
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _key_before(opened: OpenVideo, start_seconds: float, end_seconds: float) -> tuple[float | None, bool]:
    """When the last key frame at or before the start is shown; None if that cannot be known without decoding.

    And whether what is shown from there until the end is whole without later pictures: no picture of it comes, in the file,
    after one that is shown at the end or later.
    """
    for back_seconds in BACK_SECONDS if opened.clock == "pts" else ():
        key_seconds, late, clean = None, False, True
        with open_container(opened.file) as source:
            seek(source, opened, start_seconds - back_seconds)
            for packet in source.demux(source.streams[opened.stream.index]):
                if not packet.size:
                    continue  # the end of the file
                if packet.pts is None or packet.dts is None:  # of the first packets after a seek, in some containers
                    key_seconds = None
                    continue
                shown, decoded = (_seconds(ticks, packet, opened) for ticks in (packet.pts, packet.dts))
                if packet.is_keyframe and shown <= start_seconds + _ROUNDED_SECONDS:
                    key_seconds, late, clean = shown, False, True
                if shown >= end_seconds - TIME_TOLERANCE_SECONDS:
                    late = True
                elif late and key_seconds is not None and shown >= key_seconds:
                    clean = False
                if decoded >= end_seconds:
                    break
        if key_seconds is not None:
            return key_seconds, clean
    return None, False


def _copy(opened: OpenVideo, out: OutputContainer, start_seconds: float, end_seconds: float) -> None:
    """Copy the packets from the key frame at the start on. Raises av.error.FFmpegError for what `out` cannot hold."""
    with open_container(opened.file) as source:
        streams = [source.streams[opened.stream.index], *audible(source)]
        targets = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        lag_seconds = AUDIO_LAG_SECONDS if len(streams) > 1 else 0.0
        seek(source, opened, start_seconds - BACK_SECONDS[-1])
        begun = False
        held: list[Packet[Stream]] = []
        for packet in source.demux(streams):
            if packet.pts is None or packet.dts is None:
                continue
            shown, decoded = (_seconds(ticks, packet, opened) for ticks in (packet.pts, packet.dts))
            if decoded >= end_seconds + lag_seconds:
                break
            of_video = packet.stream_index == opened.stream.index
            begun = begun or (of_video and packet.is_keyframe and abs(shown - start_seconds) < TIME_TOLERANCE_SECONDS)
            # Pictures that come after the key frame but are shown before it belong to a group that is not there.
            if shown < start_seconds - TIME_TOLERANCE_SECONDS or (of_video and not begun):
                continue
            if of_video:
                held.append(packet)  # one that is shown too late is wanted if a wanted one follows
            if shown >= end_seconds - TIME_TOLERANCE_SECONDS:
                continue
            for wanted in held if of_video else [packet]:
                offset = round((start_seconds + opened.origin_seconds) / wanted.time_base)
                wanted.pts, wanted.dts = (wanted.pts or 0) - offset, (wanted.dts or 0) - offset
                wanted.stream = targets[wanted.stream_index]
                out.mux(wanted)
            if of_video:
                held.clear()


def _seconds(ticks: int, packet: Packet[Stream], opened: OpenVideo) -> float:
    return float(ticks * packet.time_base) - opened.origin_seconds
