"""What only the packets of a stream tell: how long it is where its container does not say, and where its clock begins anew.

    cat a.ts b.ts     0 s ......... 10 s 0 s ......... 10 s         clock "joined": the times go on, 0 s ......... 20 s

FFmpeg takes the first and the last time of a file for its length; in a joined one, that is the length of a piece of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import av.error
from av.container import InputContainer

from indexer.decode.containers import open_container
from indexer.storage.fetch import VideoFile

JUMP_SECONDS = 0.2
"""A clock that goes back by more was set anew; by less, packets are in another order than their frames."""
_JOINABLE = ("mpegts", "mpeg")
"""Containers without a header that speaks for the whole file: recorders and `cat` put pieces of them together."""
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
