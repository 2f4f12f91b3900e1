"""Small real videos, made by PyAV when a test asks for them. Every picture says which one it is by its brightness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def pattern(number: int, *, width: int = 320, height: int = 240) -> Picture:
    """A smooth picture whose left half is as bright as its number says, and whose right half is a gradient with colour."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2] = 20 + number % 28 * 7
    ramp = np.linspace(0, 255, width - width // 2)
    picture[:, width // 2 :, 0] = ramp
    picture[:, width // 2 :, 1] = 255 - ramp
    picture[:, width // 2 :, 2] = np.linspace(40, 220, height)[:, None]
    return picture


def number_of(picture: Picture) -> int:
    """The number that `pattern` wrote, mod 28, read back from a decoded (and resized) picture."""
    height, width = picture.shape[:2]
    level = float(picture[height // 4 : -height // 4, width // 8 : width // 3].mean())
    return round((level - 20) / 7)


def write_video(
    path: Path,
    *,
    frames: int = 50,
    fps: Fraction | int = 25,
    width: int = 320,
    height: int = 240,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 25,
    pts: Iterable[int] | None = None,
    picture: Callable[[int], Picture] | None = None,
    options: dict[str, str] | None = None,
    colorspace: int | None = None,
    color_range: int | None = None,
    color_trc: int | None = None,
    aspect: Fraction | None = None,
    rotation: float = 0,
) -> Path:
    """Encode `frames` pictures; `pts` (in ticks of 1/1000 s) makes a variable frame rate.

    `aspect`: how much wider than high a pixel is; `rotation`: degrees to turn it counterclockwise when it is shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = None if pts is None else list(pts)
    draw = picture or (lambda number: pattern(number, width=width, height=height))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if color_trc is not None:
            stream.codec_context.color_trc = color_trc
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            if colorspace is not None or color_range is not None:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def hold_last(path: Path, to: Path, *, seconds: float) -> Path:
    """The same MP4, whose last picture is to be shown for `seconds`."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        packets[-1].duration = round(seconds / packets[-1].time_base)
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
    return to


def index_first(path: Path, to: Path) -> Path:
    """The same MP4 with its index before its frames, so that a cut leaves the index whole."""
    with av.open(str(path)) as source, av.open(str(to), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return to


def write_sound(path: Path, *, seconds: float = 1.0) -> Path:
    """An MP4 with nothing but sound."""
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=44100, layout="mono"), seconds)
    return path


def with_sound(path: Path, to: Path, *, seconds: float, tags: Mapping[str, str] | None = None) -> Path:
    """The same pictures, with these tags, and `seconds` of silence beside them."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        pictures = target.add_stream_from_template(source.streams.video[0])
        pictures.metadata.update(tags or {})
        codec, rate = {".wmv": ("wmav2", 64_000), ".mpg": ("mp2", 384_000)}.get(to.suffix, ("aac", 64_000))
        sound = target.add_stream(codec, rate=44100, layout="mono")
        sound.codec_context.bit_rate = rate
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                target.mux(packet)
        _mux_silence(target, sound, seconds)
    return to


def _mux_silence(container: OutputContainer, stream: AudioStream, seconds: float) -> None:
    samples = stream.codec_context.frame_size or 1024
    for number in range(int(seconds * 44100 / samples)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, number * samples, Fraction(1, 44100)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
