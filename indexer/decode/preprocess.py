"""Decoded pictures -> the uint8 RGB pixels that the model sees: resized, cropped, upright; not normalised.

`weights.transforms()` of torchvision's video models resizes with bilinear interpolation and `antialias=False`: each output
pixel reads four input pixels. So only those are read, here straight from the Y, U and V planes, and the colour matrix is
applied to the small result. A 720p picture becomes 112x112 while touching 5 % of it. Chroma is taken from the sample that
covers the luma pixel, as swscale does for an unscaled conversion to RGB.

Formula of the source positions: torch `interpolate(mode="bilinear", align_corners=False)`, in float32:
    source = max(0, (output + 0.5) * in / out - 0.5)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from indexer.records import ClipGeometry

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Indices = NDArray[np.intp]
    Pixels = NDArray[np.uint8]
    Samples = Pixels | NDArray[np.uint16]

PREPROCESSING_VERSION = 2
"""Part of the recipe: raise it when the same video would give other pixels."""

_LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Kr, Kb by FFmpeg's AVColorSpace number (ITU-T H.273 table 4). All others, unspecified too, are BT.601, as in swscale."""
_BT601 = (0.299, 0.114)
_FULL_RANGE = 2

_SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0)}
_PLANAR_YUV = {
    f"yuv{range_}{name}p{depth}": (*shifts, bits)
    for name, shifts in _SUBSAMPLING.items()
    for range_, depth, bits in [("", "", 8), ("j", "", 8), ("", "10le", 10), ("", "12le", 12)]
}
"""Pixel formats of the short way -> how far chroma is subsampled, as shifts (x, y), and the bits of a sample."""


@dataclass(frozen=True)
class _Axis:
    """Bilinear taps along one axis: output k = low[k] * (1 - weight[k]) + high[k] * weight[k]."""

    low: Indices
    high: Indices
    weight: Floats

    def reversed(self, size: int) -> _Axis:
        """The same taps on a mirrored axis of `size` pixels."""
        return _Axis((size - 1 - self.low)[::-1], (size - 1 - self.high)[::-1], self.weight[::-1])

    @property
    def taps(self) -> Indices:
        """All low ones, then all high ones."""
        return np.concatenate([self.low, self.high])


def resized_size(height: int, width: int, resize: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) after torchvision's `Resize(resize)`, pixels."""
    if len(resize) == 2:
        return resize[0], resize[1]
    short, long = min(height, width), max(height, width)
    scaled = int(resize[0] * long / short)
    return (resize[0], scaled) if height <= width else (scaled, resize[0])


def _axis(size: int, resized: int, crop: int) -> _Axis:
    """Taps of the centre crop of `crop` pixels, after resizing `size` pixels to `resized`."""
    first = round((resized - crop) / 2.0)
    output = np.arange(first, first + crop, dtype=np.float32)
    source = np.maximum((output + np.float32(0.5)) * np.float32(size / resized) - np.float32(0.5), np.float32(0))
    low = np.minimum(source.astype(np.intp), size - 1)
    return _Axis(low, np.minimum(low + 1, size - 1), source - low.astype(np.float32))


class _Taps:
    """Where the output pixels lie in a stored picture of one size and rotation, and room for making them.

    Room that is asked for anew for every picture costs more than what is done in it: the system clears each page of it first.
    """

    def __init__(self, height: int, width: int, quarter_turns: int, aspect: float, geometry: ClipGeometry) -> None:
        turned = quarter_turns % 2 == 1
        # `aspect` widens the stored pixels; what is shown as wide may be stored as high.
        shown_height, shown_width = (round(width * aspect), height) if turned else (height, round(width * aspect))
        resized_height, resized_width = resized_size(shown_height, shown_width, geometry.resize)
        if turned:
            rows = _axis(height, resized_width, geometry.crop[1])
            columns = _axis(width, resized_height, geometry.crop[0])
        else:
            rows = _axis(height, resized_height, geometry.crop[0])
            columns = _axis(width, resized_width, geometry.crop[1])
        # np.rot90 turns the small result upright; the axes it mirrors must be read mirrored, or the crop is off by a pixel.
        if quarter_turns in (2, 3):
            rows = rows.reversed(height)
        if quarter_turns in (1, 2):
            columns = columns.reversed(width)
        self.quarter_turns = quarter_turns
        self.rows, self.columns = rows, columns
        size = len(rows.low), len(columns.low)
        self._down: Floats = np.ascontiguousarray(np.broadcast_to(rows.weight[:, None], size))
        self._right: Floats = np.ascontiguousarray(np.broadcast_to(columns.weight, size))
        self._corners: Floats = np.empty((2, 2, *size), np.float32)
        self._sides: Floats = np.empty((2, *size), np.float32)
        self.channels: Floats = np.empty((3, *size), np.float32)
        """What `interpolate` writes."""
        self._rgb: Floats = np.empty((3, *size), np.float32)

    def pick(self, plane: Samples, shift_x: int = 0, shift_y: int = 0, field_step: int = 1) -> Samples:
        """The samples at all taps of a plane [H, W, ...] that is subsampled by the shifts: [2 * rows, 2 * columns, ...].

        Whole rows first: what lies side by side in memory is fetched ahead, and the list of places stays short.
        """
        lines = plane.take((self.rows.taps >> shift_y) * field_step, axis=0)
        return lines.take(self.columns.taps >> shift_x, axis=1)

    def interpolate(self, samples: Samples, channel: int) -> None:
        """What `pick` gave, of one colour, into one of the `channels`."""
        rows, columns = self._down.shape
        np.copyto(self._corners, samples.reshape(2, rows, 2, columns).transpose(0, 2, 1, 3))
        (top, bottom), sides, result = self._corners, self._sides, self.channels[channel]
        _mix(top, bottom, self._down, into=sides)
        _mix(sides[0], sides[1], self._right, into=result)

    def to_rgb(self, matrix: Floats, offset: Floats) -> Floats:
        """The `channels`, as Y, U, V, in R, G, B; they are of no use afterwards."""
        (luma, u, v), (red, green, blue) = self.channels, self._rgb
        luma *= matrix[0, 0]
        np.multiply(v, matrix[0, 2], out=red)
        np.multiply(u, matrix[1, 1], out=green)
        np.multiply(u, matrix[2, 1], out=blue)
        self._rgb += luma
        v *= matrix[1, 2]
        green += v
        self._rgb += offset[:, None, None]
        return self._rgb

    def upright(self, channels: Floats) -> Pixels:
        """R, G, B as stored -> [height, width, 3] uint8 as shown."""
        np.clip(np.rint(channels, out=channels), 0, 255, out=channels)
        pixels: Pixels = np.empty((*channels.shape[1:], 3), np.uint8)
        for number, channel in enumerate(channels):
            pixels[..., number] = channel
        return np.ascontiguousarray(np.rot90(pixels, self.quarter_turns))


def _mix(left: Floats, right: Floats, weight: Floats, *, into: Floats) -> None:
    """left + (right - left) * weight."""
    np.subtract(right, left, out=into)
    np.multiply(into, weight, out=into)
    np.add(into, left, out=into)


@lru_cache(maxsize=8)
def _yuv_to_rgb(colorspace: int, full_range: bool, bits: int) -> tuple[Floats, Floats]:
    """3x3 matrix and offset, so that RGB = matrix @ YUV + offset; RGB in 0..255, samples of so many bits (ITU-T H.273 8.3)."""
    kr, kb = _LUMA_WEIGHTS.get(colorspace, _BT601)
    kg = 1 - kr - kb
    unit, most = 2.0 ** (bits - 8), 2.0**bits - 1
    luma, chroma, black = (255 / most, 255 / most, 0.0) if full_range else (255 / 219 / unit, 255 / 224 / unit, 16 * unit)
    matrix = np.array(
        [
            [luma, 0, chroma * 2 * (1 - kr)],
            [luma, -chroma * 2 * (1 - kb) * kb / kg, -chroma * 2 * (1 - kr) * kr / kg],
            [luma, chroma * 2 * (1 - kb), 0],
        ]
    )
    offset = -matrix @ np.array([black, 128 * unit, 128 * unit])
    return matrix.astype(np.float32), offset.astype(np.float32)


class Sampler:
    """Turns the pictures of one video into model pixels. Remembers the positions for each picture shape it meets."""

    def __init__(self, geometry: ClipGeometry, *, aspect: float = 1.0) -> None:
        """`aspect`: how much wider than high a stored pixel is shown (sample aspect ratio)."""
        self.geometry = geometry
        self.aspect = aspect
        self._taps: dict[tuple[int, int, int, int], _Taps] = {}

    def from_frame(self, frame: av.VideoFrame) -> Pixels:
        """A decoded frame -> [height, width, 3] uint8 RGB of the crop, upright."""
        planar = _PLANAR_YUV.get(frame.format.name)
        if planar is None:
            rgb: Pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            return self.from_rgb(rgb, quarter_turns=quarter_turns(frame), field_step=self._field_step(frame))
        return self._from_planes(frame, *planar)

    def from_rgb(self, picture: Pixels, *, quarter_turns: int = 0, field_step: int = 1) -> Pixels:
        """A whole RGB picture [H, W, 3] as stored -> the crop, as `weights.transforms()` takes it before normalising.

        With a `field_step` of 2, of its upper field alone.
        """
        height, width = picture.shape[0] // field_step, picture.shape[1]
        taps = self._taps_for(height, width, quarter_turns, lines=field_step)
        values = taps.pick(picture, field_step=field_step)
        for number in range(3):
            taps.interpolate(values[..., number], number)
        return taps.upright(taps.channels)

    def _from_planes(self, frame: av.VideoFrame, shift_x: int, shift_y: int, bits: int) -> Pixels:
        turns = quarter_turns(frame)
        step = self._field_step(frame)
        height, width = frame.height // step, frame.width
        taps = self._taps_for(height, width, turns, lines=step)
        for number, plane in enumerate(frame.planes[:3]):
            shifts = (0, 0) if number == 0 else (shift_x, shift_y)
            stored = memoryview(plane)
            samples: Samples = np.frombuffer(stored, np.uint8) if bits == 8 else np.frombuffer(stored, np.uint16)
            rows = samples.reshape(-1, plane.line_size // samples.itemsize)
            taps.interpolate(taps.pick(rows, *shifts, field_step=step), number)
        full_range = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        return taps.upright(taps.to_rgb(*_yuv_to_rgb(int(frame.colorspace), full_range, bits)))

    def _field_step(self, frame: av.VideoFrame) -> int:
        """2 for an interlaced frame, of which one field is shown: its lines belong to one moment, the other's to the next."""
        return 2 if frame.interlaced_frame and frame.height >= 2 * self.geometry.crop[0] else 1

    def _taps_for(self, height: int, width: int, turns: int, lines: int = 1) -> _Taps:
        key = (height, width, turns, lines)
        if key not in self._taps:
            self._taps[key] = _Taps(height, width, turns, self.aspect / lines, self.geometry)
        return self._taps[key]


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often to turn the stored picture counterclockwise by 90 degrees, so that it is shown upright."""
    return round(frame.rotation / 90) % 4
