"""The default reader: PyAV with its own FFmpeg. Reads on, or seeks when a key frame lies ahead of the next wanted time.

On the way it does not decode what is needless, where the codec tells for certain what that is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error

from indexer.decode.keyframes import KeyFrames
from indexer.decode.packets import JUMP_SECONDS
from indexer.decode.preprocess import Sampler, quarter_turns
from indexer.decode.probe import OpenVideo
from indexer.decode.readers import TIME_TOLERANCE_SECONDS, hold_limit
from indexer.decode.readers.needless import WantedTimes, can_leave_out, judge
from indexer.errors import RangeLost

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    TimedFrame = tuple[float, av.VideoFrame]

SEEK_FRAMES = 8
"""What a seek costs, flush and key frame included, in decoded frames: 4 (2160p) to 9 (240p). A fixed number and not one that
is measured on the way: which frames are decoded, and so which damage is noticed, must not depend on the clock."""

_HDR_TRANSFERS = (16, 18)
"""PQ and HLG, by FFmpeg's AVColorTransferCharacteristic: shown without tone mapping, so darker or flatter than on a screen."""


class PyavReader:
    """See `Reader` for the contract."""

    def __init__(self, video: OpenVideo, key_frames: KeyFrames, sampler: Sampler, *, must_seek: bool = False) -> None:
        self._video = video
        self._key_frames = key_frames
        self._must_seek = must_seek
        self._sampler = sampler
        self._stream = video.stream
        self._stream.codec_context.thread_count = 1  # every core already decodes a video of its own
        self._clock = FrameClock(video)
        self._wanted = WantedTimes(())
        self._can_leave_out = can_leave_out(video)
        self._frames = self._decode()
        self._end: float | None = None
        self._ended = False
        self._high_dynamic_range = False
        self.quarter_turns = 0
        self.decode_errors = 0
        self.frames_decoded = 0  # what seeking and leaving out save; nobody asks but tests

    @property
    def end_seconds(self) -> float | None:
        return self._end if self._ended else None

    @property
    def warnings(self) -> tuple[str, ...]:
        found = []
        if self._clock.repaired:
            found.append("W_TIMESTAMPS")
        if self.decode_errors:
            found.append("W_DECODE_ERRORS")
        if self._high_dynamic_range:
            found.append("W_HDR")
        return tuple(found)

    def pictures(self, times: Iterable[float]) -> Iterator[NDArray[np.uint8] | None]:
        self._wanted = WantedTimes(times)
        current = self._next()
        following = self._next()
        picture: NDArray[np.uint8] | None = None
        for wanted in self._wanted:
            if following is not None and self._worth_seeking(following[0], wanted):
                sought = self._seek(wanted)
                if sought is not None:
                    current, picture = sought, None
                following = self._next()
            while following is not None and following[0] <= wanted + TIME_TOLERANCE_SECONDS:
                current, picture = following, None
                following = self._next()
            if current is None or wanted >= self._hidden_after(current, is_last=following is None):
                yield None
                continue
            if picture is None:
                picture = self._sampler.from_frame(current[1])
                self.quarter_turns = quarter_turns(current[1])
                self._high_dynamic_range |= current[1].color_trc in _HDR_TRANSFERS
            yield picture

    def _hidden_after(self, timed: TimedFrame, *, is_last: bool) -> float:
        """When a frame stops standing for what comes after it."""
        limit = timed[0] + hold_limit(self._video.guessed_fps)
        return min(limit, self._end_of(timed)) if is_last else limit

    def _end_of(self, timed: TimedFrame) -> float:
        """When the last frame of the file stops being shown, which may be long after it stopped standing for anything."""
        seconds, frame = timed
        stated = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        return seconds + max(stated, 1 / self._video.guessed_fps) + TIME_TOLERANCE_SECONDS

    def _next(self) -> TimedFrame | None:
        timed = next(self._frames, None)
        if timed is None:
            self._ended = True
        else:
            self._end = self._end_of(timed)
        return timed

    def _decode(self) -> Iterator[TimedFrame]:
        """Frames in the order they are shown. Damaged packets are counted and passed over; a damaged tail ends the video."""
        packets = judge(
            self._video.container.demux(self._stream),
            self._wanted,
            base=self._stream.time_base or Fraction(1),
            origin_seconds=self._video.origin_seconds,
        )
        while True:
            try:
                packet, needless = next(packets, (None, False))
            except av.error.FFmpegError:
                self.decode_errors += 1
                return
            if packet is None:
                return
            self._clock.note(packet)
            self._leave_out(needless=needless)
            try:
                frames = packet.decode()
            except av.error.MemoryError:
                raise MemoryError("the decoder ran out of memory") from None
            except av.error.FFmpegError:
                self.decode_errors += 1
                continue
            for frame in frames:
                self.frames_decoded += 1
                if frame.interlaced_frame and self._stream.codec_context.name == "h264":
                    self._can_leave_out = False  # from now on a picture may lie in two packets
                yield self._clock.seconds(frame), frame

    def _leave_out(self, *, needless: bool) -> None:
        """Tell the decoder whether it may pass over the next picture, if no other refers to it.

        Not before the first one, which stands for all times before it, and not where times had to be made up.
        """
        may = needless and self._can_leave_out and self.frames_decoded > 0 and not self._clock.repaired
        self._stream.codec_context.skip_frame = "NONREF" if may else "DEFAULT"

    def _rewind(self) -> None:
        with suppress(av.error.FFmpegError):  # a file that cannot seek is read on from where it is
            self._video.container.seek(self._stream.start_time or 0, stream=self._stream, backward=True)

    def _worth_seeking(self, position: float, wanted: float) -> bool:
        """Whether a key frame lies well ahead of `position`, and still at or before the wanted time."""
        key = self._key_frames.last_until(wanted + TIME_TOLERANCE_SECONDS)
        return key is not None and (key - position) * self._video.guessed_fps > SEEK_FRAMES

    def _seek(self, wanted: float) -> TimedFrame | None:
        """Go to a key frame shown at or before `wanted` and return it.

        If the index is a little wrong, one before it is tried. If none fits, it is not to be trusted: the file is read once
        more from its start, without seeking. None then.
        """
        base = self._stream.time_base
        key = self._key_frames.last_until(wanted + TIME_TOLERANCE_SECONDS)
        assert base is not None  # there are key frames
        assert key is not None  # it is worth seeking
        for back_seconds in (0.0, 2.0, 10.0):
            try:
                shown = key - back_seconds + self._video.origin_seconds
                self._video.container.seek(round(shown / base), stream=self._stream, backward=True)
            except av.error.FFmpegError:
                break
            self._clock.reset()
            self._frames = self._decode()
            # Pictures before the key frame belong to a group that was not decoded.
            timed = next((t for t in self._frames if t[1].key_frame and t[1].pts is not None), None)
            if timed is not None and timed[0] <= wanted + TIME_TOLERANCE_SECONDS:
                self._end = self._end_of(timed)
                return timed
        if self._must_seek:
            raise RangeLost("its index of key frames leads nowhere")
        self._key_frames = KeyFrames()
        self._rewind()
        self._clock.reset()
        self._frames = self._decode()
        return None


class FrameClock:
    """Gives every decoded frame its time in seconds, whatever its container knows of time."""

    def __init__(self, video: OpenVideo) -> None:
        self.mode = video.clock
        self.repaired = False
        self._origin = video.origin_seconds
        self._step = 1 / video.guessed_fps
        self._shift = 0.0
        self._previous: float | None = None
        self._dts: list[float] = []

    def reset(self) -> None:
        self._previous = None

    def note(self, packet: Packet[VideoStream]) -> None:
        """AVI has no pts, and frames leave the decoder in the order they are shown: their times are the dts in order."""
        if self.mode == "decode_order" and packet.dts is not None and packet.size:
            heapq.heappush(self._dts, float(packet.dts * packet.time_base))

    def seconds(self, frame: av.VideoFrame) -> float:
        now: float | None = None
        if self.mode in ("pts", "joined") and frame.pts is not None and frame.time_base is not None:
            now = float(frame.pts * frame.time_base) - self._origin + self._shift
            if self.mode == "joined" and self._previous is not None and now < self._previous - JUMP_SECONDS:
                self._shift += self._previous + self._step - now
                now = self._previous + self._step
        elif self.mode == "decode_order" and self._dts:
            now = heapq.heappop(self._dts)
        if now is None or (self._previous is not None and now <= self._previous):
            # No time, or one that does not go forward: the frame follows its predecessor at the nominal rate.
            if self.mode != "counted":
                self.repaired = True
            now = 0.0 if self._previous is None else self._previous + self._step
        self._previous = now
        return now
