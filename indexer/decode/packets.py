"""What only the packets of a file tell: how long a stream is where its container does not say, where its clock begins anew,
what goes on after its end.

    cat a.ts b.ts     0 s ......... 10 s 0 s ......... 10 s         clock "joined": the times go on, 0 s ......... 20 s

FFmpeg takes the first and the last time of a file for its length; in a joined one, that is the length of a piece of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import av
import av.error
from av.container import InputContainer

from indexer.decode.containers import open_container
from indexer.storage.fetch import VideoFile

JUMP_SECONDS = 0.2
"""A clock that goes back by more was set anew; by less, packets are in another order than their frames."""
_JOINABLE = ("mpegts", "mpeg")
"""Containers without a header that speaks for the whole file: recorders and `cat` put pieces of them together."""
_INTERLEAVED = ("matroska", "flv", "mpeg", "asf", "nut")
"""Containers that state the length of the whole file only, and store pictures and sound side by side: a cut ends both."""
_TAIL_SECONDS = 5.0
"""Before its end, a file is looked at for sound."""
_SOUND_PACKET_SECONDS = 1.0
"""The last packet of a sound may begin this long before the end."""
_PLACES = 16
"""In a file that is looked at for a jump of its clock; all of it would have to be read to find each."""


@dataclass(frozen=True, slots=True)
class PacketScan:
    """Of one stream, read to its end."""

    packets: int
    start_seconds: float | None
    """The first time that is shown; None if packets have no times."""
    end_seconds: float
    """When the last one stops being shown; the pieces of a joined stream follow each other."""


def scan_packets(file: VideoFile, stream_index: int, fps: float) -> PacketScan:
    """Read all packets, which takes as long as reading the file. A damaged one ends it."""
    packets, start, end, shift = 0, None, 0.0, 0.0
    before: float | None = None
    # A container of its own: not every format can be wound back.
    with open_container(file) as scan, suppress(av.error.FFmpegError):
        for packet in scan.demux(scan.streams[stream_index]):
            if not packet.size:
                continue
            packets += 1
            if packet.pts is None:
                continue
            shown = float(packet.pts * packet.time_base) + shift
            decoded = shown if packet.dts is None else float(packet.dts * packet.time_base) + shift
            if before is not None and decoded < before - JUMP_SECONDS:
                shift += end - shown
                shown, decoded = end, end
            before = decoded
            start = shown if start is None else min(start, shown)
            end = max(end, shown + (float(packet.duration * packet.time_base) if packet.duration else 1 / fps))
    return PacketScan(packets, start, end)


def is_joined(file: VideoFile, container: InputContainer, stream_index: int) -> bool:
    """Whether the clock of the stream goes back somewhere, as far as looks at some places of the file tell."""
    if container.format.name not in _JOINABLE or not container.size:
        return False
    before: float | None = None
    with open_container(file) as scan, suppress(av.error.FFmpegError):
        for place in range(_PLACES):
            scan.seek(container.size * place // _PLACES, unsupported_byte_offset=True)
            packets = scan.demux(scan.streams[stream_index])
            time = next((float(p.dts * p.time_base) for p in packets if p.dts is not None), None)
            if time is None:
                continue
            if before is not None and time < before - JUMP_SECONDS:
                return True
            before = time
    return False


def goes_on(container: InputContainer, stream_index: int, seconds: float) -> bool:
    """Whether a packet that is shown after `seconds`, on the container's clock, follows where the container is read now."""
    with suppress(av.error.FFmpegError):
        for packet in container.demux(container.streams[stream_index]):
            if not packet.size or packet.pts is None or packet.is_discard:
                continue
            if packet.pts * packet.time_base > seconds:
                return True
    return False


def sound_outlasts_pictures(file: VideoFile, container: InputContainer, stream_index: int, stated_seconds: float) -> bool:
    """Whether the end that is stated for the pictures, on the container's clock, is that of the file, and sound goes on to it.

    Then the file is whole: its pictures just end before its sound.
    """
    if container.duration is None or not container.format.name.startswith(_INTERLEAVED):
        return False
    end_seconds = ((container.start_time or 0) + container.duration) / av.time_base - _SOUND_PACKET_SECONDS
    if stated_seconds < end_seconds:
        return False
    for seeking in (True, False):  # not every file can: some then seem to hold nothing more
        found = False
        with open_container(file) as scan, suppress(av.error.FFmpegError):
            if seeking:
                scan.seek(round((end_seconds - _TAIL_SECONDS) * av.time_base))
            for packet in scan.demux():
                found |= packet.size > 0
                if packet.stream_index == stream_index or not packet.size or packet.pts is None:
                    continue
                if packet.pts * packet.time_base >= end_seconds:
                    return True
        if found:
            break
    return False
