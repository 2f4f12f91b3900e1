"""Which packets need no decoding: those of pictures that are shown at no wanted time, and that no other picture refers to.

Whether others refer to it, the decoder knows (FFmpeg's `skip_frame`), of H.264, HEVC and MPEG-2 for certain. When a picture is
shown, its packet says, before it is decoded. Four in ten pictures of x264 are of this kind, and a dense job wants one in four.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error

from indexer.decode.probe import OpenVideo
from indexer.decode.readers import TIME_TOLERANCE_SECONDS

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

    JudgedPacket = tuple[Packet[VideoStream], bool]

_AHEAD_PACKETS = 4
"""Read before one is judged: by then it is mostly known when the next picture is shown. If not, this one is taken to be shown
for longer than it is, and at worst decoded for nothing."""
_REMEMBERED_PACKETS = 64
"""No codec puts pictures out of order by more."""

_PROGRESSIVE = 1
"""FFmpeg's AVFieldOrder."""
_HVCC, _VPS = 1, b"\0\0\1\x40\1"
"""How the two forms of HEVC's parameter sets begin: in MP4 and Matroska, and in streams."""


class WantedTimes:
    """Ascending times in seconds, taken one by one; those to come can be looked at before."""

    def __init__(self, times: Iterable[float]) -> None:
        self._times = iter(times)
        self._ahead: deque[float] = deque()

    def __iter__(self) -> Iterator[float]:
        """Each one stays wanted until the next one is asked for."""
        while self._ahead or self._look_ahead():
            yield self._ahead[0]
            self._ahead.popleft()

    def any_in(self, start_seconds: float, end_seconds: float) -> bool:
        """Whether one that is still wanted lies in [start, end]."""
        while (not self._ahead or self._ahead[-1] < start_seconds) and self._look_ahead():
            pass  # and no further: the end may lie behind a hole of days
        return any(start_seconds <= wanted <= end_seconds for wanted in self._ahead)

    def _look_ahead(self) -> bool:
        following = next(self._times, None)
        if following is None:
            return False
        self._ahead.append(following)
        return True


def can_leave_out(video: OpenVideo) -> bool:
    """Whether `skip_frame` changes no other picture of this video, and its packets tell when each is shown."""
    codec = video.stream.codec_context
    if video.clock != "pts" or video.stream.time_base is None:
        return False
    if codec.name == "h264":
        return codec.field_order == _PROGRESSIVE
    return codec.name == "mpeg2video" or (codec.name == "hevc" and _has_one_layer(codec.extradata or b""))


def _has_one_layer(parameters: bytes) -> bool:
    """HEVC says of a picture only that none in its own temporal layer refers to it.

    numTemporalLayers, ISO/IEC 14496-15 8.3.3.1; vps_max_sub_layers_minus1, ITU-T H.265 7.3.2.1.
    """
    if parameters[:1] == bytes([_HVCC]):
        return len(parameters) > 21 and parameters[21] >> 3 & 7 == 1
    start = parameters.find(_VPS)
    return 0 <= start < len(parameters) - 6 and parameters[start + 6] >> 1 & 7 == 0


def judge(
    packets: Iterator[Packet[VideoStream]], wanted: WantedTimes, *, base: Fraction, origin_seconds: float
) -> Iterator[JudgedPacket]:
    """The packets as they come, each with whether its picture is shown at none of the wanted times.

    `base`: seconds of a tick of theirs; `origin_seconds`: what counts as 0 in the wanted times. An error of `packets` comes
    after those that were before it.
    """
    waiting: deque[Packet[VideoStream]] = deque()
    shown: list[int] = []  # ascending pts, of the packets that wait and of those before them
    all_timed = True

    def is_needless(packet: Packet[VideoStream]) -> bool:
        if packet.pts is None or not all_timed:
            return False
        after = bisect_right(shown, packet.pts)
        if after in (0, len(shown)) or shown[max(after - 2, 0) : after].count(packet.pts) != 1:
            return False  # forgotten, the last one known, or not the only one at its time
        start, end = (float(shown[place] * base) - origin_seconds for place in (after - 1, after))
        # A tolerance earlier, when pictures count as shown; and at both ends half of one more, as floats are rounded.
        return not wanted.any_in(start - 1.5 * TIME_TOLERANCE_SECONDS, end - 0.5 * TIME_TOLERANCE_SECONDS)

    failed: av.error.FFmpegError | None = None
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            failed = error
            break
        if packet is None:
            break
        waiting.append(packet)
        if packet.pts is not None:
            insort(shown, packet.pts)
            del shown[:-_REMEMBERED_PACKETS]
        elif packet.size:
            all_timed = False  # it may hold the other half of the picture before it
        if len(waiting) > _AHEAD_PACKETS:
            first = waiting.popleft()
            yield first, is_needless(first)
    for packet in waiting:
        yield packet, is_needless(packet)
    if failed is not None:
        raise failed
