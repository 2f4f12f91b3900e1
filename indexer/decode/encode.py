"""A part of a video, decoded and encoded anew as H.264 and AAC, so that it begins and ends at any picture."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from indexer.decode.containers import open_container
from indexer.decode.probe import OpenVideo
from indexer.decode.readers import TIME_TOLERANCE_SECONDS
from indexer.decode.readers.pyav import FrameClock
from indexer.errors import Corrupt

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

BACK_SECONDS = (1.0, 3.0, 11.0)
"""How long before a time to seek, so as to land on a key frame before it: not all containers know where these are."""
AUDIO_LAG_SECONDS = 5.0
"""How far behind its pictures sound may lie in a file."""

_TICKS = 90_000
"""Of the clock of pictures, in a second; the pictures of all broadcast rates are whole numbers of them apart."""
_QUALITY = {"crf": "18", "preset": "veryfast"}
"""Of x264: hardly a difference to be seen, at some times real time."""
_SMALL = {"crf": "26", "preset": "veryfast"}
_LAYOUTS = {1: "mono", 6: "5.1"}
"""Channels -> what AAC calls them; any other number becomes stereo."""


def encode(
    opened: OpenVideo, out: OutputContainer, start_seconds: float, end_seconds: float, *, height: int | None = None
) -> None:
    """Write what is shown and heard in [start, end), and the way it is shown: aspect, rotation, colours.

    The first picture is the one that is shown at the start. With `height`, higher pictures are made as small, and coarser,
    in 8 bits of 4:2:0 as every browser knows it. Raises Corrupt if nothing is shown, av.error.FFmpegError.
    """
    back_seconds, sample = _way_in(opened, start_seconds)
    with open_container(opened.file) as source:
        if back_seconds is not None:
            seek(source, opened, start_seconds - back_seconds)
        pictures = _Pictures(opened, out, sample, start_seconds, end_seconds, height)
        # Where the clock of the pictures begins anew, so does that of the sound, and the filters of sound do not know.
        heard = [] if opened.clock == "joined" else audible(source)
        sounds = {stream.index: _Sound(opened, out, stream, start_seconds, end_seconds) for stream in heard}
        tracks: dict[int, _Pictures | _Sound] = {opened.stream.index: pictures, **sounds}
        latest = end_seconds + opened.origin_seconds + AUDIO_LAG_SECONDS
        for packet in source.demux([source.streams[index] for index in tracks]):
            tracks[packet.stream_index].take(packet)
            late = packet.dts is not None and packet.dts * packet.time_base > latest
            if pictures.done and (late or all(sound.done for sound in sounds.values())):
                break
        for track in tracks.values():
            track.finish()


def audible(source: InputContainer) -> list[AudioStream]:
    """The tracks of sound that there is a decoder for."""
    return [stream for stream in source.streams.audio if stream.codec_context is not None and stream.rate]


def seek(source: InputContainer, opened: OpenVideo, seconds: float) -> None:
    """Go to a key frame at or before this time, as far as the container can tell; to the start if it cannot."""
    base = opened.stream.time_base
    assert base is not None  # streams whose clock is pts have one
    with suppress(av.error.FFmpegError):
        stream = source.streams[opened.stream.index]
        source.seek(int((seconds + opened.origin_seconds) / base), stream=stream, backward=True)


def _way_in(opened: OpenVideo, start_seconds: float) -> tuple[float | None, av.VideoFrame]:
    """How long before the start to seek, so that decoding begins early enough; None to read from the beginning of the file.

    And a picture.
    """
    for back_seconds in (*BACK_SECONDS, None) if opened.clock == "pts" else (None,):
        with open_container(opened.file) as source:
            if back_seconds is not None:
                seek(source, opened, start_seconds - back_seconds)
            clock = FrameClock(opened)
            packets = source.demux(source.streams[opened.stream.index])
            for frame in (frame for packet in packets for frame in _frames(packet)):
                if back_seconds is None or (
                    frame.key_frame and clock.seconds(frame) <= start_seconds + TIME_TOLERANCE_SECONDS
                ):
                    return back_seconds, frame
                if frame.key_frame:
                    break
    raise Corrupt("is damaged: no picture of it can be decoded")


class _Pictures:
    """The track of pictures."""

    def __init__(
        self,
        opened: OpenVideo,
        out: OutputContainer,
        sample: av.VideoFrame,
        start_seconds: float,
        end_seconds: float,
        height: int | None,
    ) -> None:
        self.done = False
        self._out = out
        self._clock = FrameClock(opened)
        self._start, self._end = start_seconds, end_seconds
        self._held: tuple[float, av.VideoFrame] | None = None
        self._lengths: dict[int, int] = {}
        self._encoded = 0
        rate = Fraction(opened.guessed_fps).limit_denominator(1001)
        self._stream: VideoStream = out.add_stream("libx264", rate=rate, options=_QUALITY if height is None else _SMALL)
        codec = self._stream.codec_context
        scale = 1 if height is None else min(Fraction(1), Fraction(height, sample.height))
        sides = (round(side * scale) for side in (sample.width, sample.height))
        codec.width, codec.height = (max(2, side - side % 2) for side in sides)  # as 4:2:0 needs
        codec.pix_fmt = "yuvj420p" if sample.format.name.startswith("yuvj") else "yuv420p"
        codec.sample_aspect_ratio = opened.stream.sample_aspect_ratio or Fraction(1)
        codec.time_base = self._stream.time_base = Fraction(1, _TICKS)
        self._colorspace = Colorspace.ITU709 if sample.format.is_rgb else None
        codec.colorspace = self._colorspace or sample.colorspace
        codec.color_range = ColorRange.MPEG if sample.format.is_rgb else sample.color_range
        codec.color_primaries, codec.color_trc = sample.color_primaries, sample.color_trc
        side_data: Any = sample.side_data  # PyAV's type stub has its keys wrong
        if matrix := side_data.get(Type.DISPLAYMATRIX):
            self._stream.set_display_matrix(memoryview(matrix).cast("i").tolist())

    def take(self, packet: Packet[Any]) -> None:
        """Decode a packet, and encode the pictures that are shown in the part."""
        self._clock.note(packet)
        for frame in _frames(packet):
            self._next(self._clock.seconds(frame), frame)

    def finish(self) -> None:
        """Raises Corrupt if there was no picture."""
        self._next(self._end, None)
        if not self._encoded:
            raise Corrupt(f"shows no picture between {self._start:.3f} and {self._end:.3f} s")
        self._mux(self._stream.encode(None))

    def _next(self, seconds: float, frame: av.VideoFrame | None) -> None:
        """A picture is shown until the next one: only then is it encoded."""
        if self.done:
            return
        if self._held is not None:
            shown, picture = self._held
            begin, end = (round(_TICKS * (at - self._start)) for at in (max(shown, self._start), min(seconds, self._end)))
            if begin < end:
                self._encode(picture, begin, end - begin)
        self._held = None if frame is None else (seconds, frame)
        self.done = seconds >= self._end - TIME_TOLERANCE_SECONDS

    def _encode(self, picture: av.VideoFrame, begin: int, length: int) -> None:
        codec = self._stream.codec_context
        frame = picture.reformat(codec.width, codec.height, codec.pix_fmt, dst_colorspace=self._colorspace)
        frame.pts, frame.time_base, frame.pict_type = begin, Fraction(1, _TICKS), PictureType.NONE
        self._encoded += 1
        self._lengths[begin] = length
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            packet.duration = self._lengths.pop(packet.pts or 0, packet.duration)
            self._out.mux(packet)


class _Sound:
    """A track of sound, cut to the sample."""

    def __init__(
        self, opened: OpenVideo, out: OutputContainer, stream: AudioStream, start_seconds: float, end_seconds: float
    ) -> None:
        self.done = False
        self._out = out
        self._stream: AudioStream = out.add_stream("aac", rate=stream.rate, layout=_LAYOUTS.get(stream.channels, "stereo"))
        self._stream.metadata.update(language=stream.language or "und")
        self._graph = Graph()
        start, end = start_seconds + opened.origin_seconds, end_seconds + opened.origin_seconds
        self._graph.link_nodes(
            self._graph.add_abuffer(template=stream),
            self._graph.add("atrim", f"start={start:.6f}:end={end:.6f}"),
            self._graph.add("asetpts", f"PTS-{start:.6f}/TB"),
            self._graph.add("abuffersink"),
        ).configure()

    def take(self, packet: Packet[Any]) -> None:
        """Decode a packet, and encode what is heard in the part."""
        for frame in _frames(packet):
            if frame.pts is None or self.done:
                continue
            try:
                self._graph.push(frame)
                self._drain()
            except EOFError:  # the filter has heard the end
                self.done = True

    def finish(self) -> None:
        with suppress(EOFError):
            self._graph.push(None)
            self._drain()
        self._out.mux(self._stream.encode(None))

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while True:
                frame: Any = self._graph.pull()
                self._out.mux(self._stream.encode(frame))


def _frames(packet: Packet[Any]) -> list[Any]:
    """A damaged packet costs its own frames, not those around it."""
    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        return []
