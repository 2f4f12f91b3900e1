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
        return np.stack([self.low, self.high], axis=1).ravel()


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
    """Where the output pixels lie in a stored picture of one size and rotation."""

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

    def flat(self, stride: int, shift_x: int, shift_y: int, field_step: int = 1) -> Indices:
        """Offsets of all taps in a plane of `stride` samples a row, subsampled by the shifts."""
        rows = (self.rows.taps >> shift_y) * field_step
        return (rows[:, None] * stride + (self.columns.taps >> shift_x)[None, :]).ravel()

    def interpolate(self, taps: Samples) -> Floats:
        """Values at the taps, in any shape of [2 * rows, 2 * columns] -> [rows, columns]."""
        block = taps.reshape(len(self.rows.low), 2, len(self.columns.low), 2)
        down = self.rows.weight[:, None, None]
        top = block[:, 0].astype(np.float32)
        lines: Floats = top + (block[:, 1] - top) * down
        left = lines[..., 0]
        interpolated: Floats = left + (lines[..., 1] - left) * self.columns.weight
        return interpolated

    def upright(self, channels: tuple[Floats, Floats, Floats]) -> Pixels:
        """Three float channels as stored -> [height, width, 3] uint8 as shown."""
        stacked = np.stack(channels, axis=-1)
        np.clip(np.rint(stacked, out=stacked), 0, 255, out=stacked)
        return np.ascontiguousarray(np.rot90(stacked.astype(np.uint8), self.quarter_turns))


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
        self._flat: dict[tuple[int, int, int, int, int, int, int], Indices] = {}

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
        flat = self._flat_for(taps, height, width, quarter_turns, stride=width, shift_x=0, shift_y=0, field_step=field_step)
        values = picture.reshape(-1, 3).take(flat, axis=0)
        channels = tuple(taps.interpolate(values[:, k]) for k in range(3))
        return taps.upright((channels[0], channels[1], channels[2]))

    def _from_planes(self, frame: av.VideoFrame, shift_x: int, shift_y: int, bits: int) -> Pixels:
        turns = quarter_turns(frame)
        step = self._field_step(frame)
        height, width = frame.height // step, frame.width
        taps = self._taps_for(height, width, turns, lines=step)
        channels = []
        for number, plane in enumerate(frame.planes[:3]):
            shifts = (0, 0) if number == 0 else (shift_x, shift_y)
            stored = memoryview(plane)
            samples: Samples = np.frombuffer(stored, np.uint8) if bits == 8 else np.frombuffer(stored, np.uint16)
            flat = self._flat_for(taps, height, width, turns, plane.line_size // samples.itemsize, *shifts, field_step=step)
            channels.append(taps.interpolate(samples.take(flat)))
        full_range = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        m, offset = _yuv_to_rgb(int(frame.colorspace), full_range, bits)
        luma = channels[0] * m[0, 0]
        red = luma + channels[2] * m[0, 2] + offset[0]
        green = luma + channels[1] * m[1, 1] + channels[2] * m[1, 2] + offset[1]
        blue = luma + channels[1] * m[2, 1] + offset[2]
        return taps.upright((red, green, blue))

    def _field_step(self, frame: av.VideoFrame) -> int:
        """2 for an interlaced frame, of which one field is shown: its lines belong to one moment, the other's to the next."""
        return 2 if frame.interlaced_frame and frame.height >= 2 * self.geometry.crop[0] else 1

    def _taps_for(self, height: int, width: int, turns: int, lines: int = 1) -> _Taps:
        key = (height, width, turns, lines)
        if key not in self._taps:
            self._taps[key] = _Taps(height, width, turns, self.aspect / lines, self.geometry)
        return self._taps[key]

    def _flat_for(
        self, taps: _Taps, height: int, width: int, turns: int, stride: int, shift_x: int, shift_y: int, field_step: int = 1
    ) -> Indices:
        key = (height, width, turns, stride, shift_x, shift_y, field_step)
        if key not in self._flat:
            self._flat[key] = taps.flat(stride, shift_x, shift_y, field_step)
        return self._flat[key]


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often to turn the stored picture counterclockwise by 90 degrees, so that it is shown upright."""
    return round(frame.rotation / 90) % 4
