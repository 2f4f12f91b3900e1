"""Six synthetic actions. Each is a texture and a motion; everything else about it is drawn anew from the seed.

    stripes sliding      straight waves that move across the picture
    rings expanding      round waves that leave a centre
    wheel spinning       spokes that turn about a hub
    snow falling         many small flakes on a dark sky
    ball bouncing        one disc that jumps along a floor
    lights blinking      a grid of lamps, each with a rhythm of its own

Colours, sizes, directions, speeds, places and background change with the seed, so that no clip of a new seed is a copy of one
seen before. No point of a picture flashes more than three times a second (WCAG 2.3.1): people will watch these videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""[height, width, 3], RGB."""

Painting = Callable[[float], Frame]
"""From a time in seconds to the picture at that time."""


def frames(
    action: str, *, seed: int, num_frames: int, width: int = 320, height: int = 240, fps: float = 30
) -> Iterator[Frame]:
    """The first `num_frames` pictures of one performance of `action`; the same seed gives the same pictures."""
    if action not in _PAINTERS:
        raise ValueError(f"unknown action {action!r}; there are {', '.join(ACTIONS)}")
    # The action is part of the seed: with one seed for all, one colour would mean one seed in every class.
    rng = np.random.default_rng((ACTIONS.index(action), seed))
    painting = _PAINTERS[action](rng, width, height)
    return (painting(number / fps) for number in range(num_frames))


def _stripes_sliding(rng: Generator, width: int, height: int) -> Painting:
    y, x = np.mgrid[:height, :width]
    angle = np.deg2rad(rng.uniform(-15, 15))
    waves = rng.uniform(11, 15) * (x * np.cos(angle) + y * np.sin(angle)) / height
    return _moving_waves(rng, waves)


def _rings_expanding(rng: Generator, width: int, height: int) -> Painting:
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = _near_the_middle(rng, width, height)
    waves = rng.uniform(7, 10) * np.hypot(x - centre_x, y - centre_y) / height
    return _moving_waves(rng, waves, direction=-1)


def _wheel_spinning(rng: Generator, width: int, height: int) -> Painting:
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = _near_the_middle(rng, width, height)
    turns = np.arctan2(y - centre_y, x - centre_x) / (2 * np.pi)
    return _moving_waves(rng, turns * rng.integers(4, 8))


def _snow_falling(rng: Generator, width: int, height: int) -> Painting:
    sky = _gradient(width, height, top=rng.uniform(0, 60, 3), bottom=rng.uniform(30, 100, 3))
    num_flakes = rng.integers(150, 300)
    size = rng.integers(3, 7, num_flakes)
    start_x, start_y = rng.uniform(0, width, num_flakes), rng.uniform(0, height, num_flakes)
    fall = height * rng.uniform(0.25, 0.7) * size / size.mean()  # px/s: large flakes are near ones
    drift = width * rng.uniform(-0.1, 0.1)
    sway, rhythm = rng.uniform(2, 8, num_flakes), rng.uniform(1, 4, num_flakes)
    white = rng.uniform(200, 255, 3).astype(np.uint8)

    def paint(seconds: float) -> Frame:
        frame = sky.copy()
        x = (start_x + drift * seconds + sway * np.sin(rhythm * seconds)).astype(int)
        y = (start_y + fall * seconds).astype(int)
        for row in range(size.max()):
            for column in range(size.max()):
                covered = size > max(row, column)
                frame[(y[covered] + row) % height, (x[covered] + column) % width] = white
        return frame

    return paint


def _ball_bouncing(rng: Generator, width: int, height: int) -> Painting:
    floor = int(height * rng.uniform(0.75, 0.9))
    room = _gradient(width, height, top=rng.uniform(90, 150, 3), bottom=rng.uniform(90, 150, 3))
    room[floor:] = rng.uniform(20, 120, 3)
    radius = height * rng.uniform(0.1, 0.18)
    jump, hop_seconds = (floor - 2 * radius) * rng.uniform(0.6, 0.95), rng.uniform(0.5, 1.0)
    start_x, start_hop, speed = rng.uniform(0, width), rng.uniform(), width * rng.uniform(0.15, 0.4) * rng.choice([-1, 1])
    ball = _dark(rng) if rng.uniform() < 0.5 else _bright(rng)
    y, x = np.ogrid[:height, :width]

    def paint(seconds: float) -> Frame:
        hop = (start_hop + seconds / hop_seconds) % 1
        centre_y = floor - radius - jump * 4 * hop * (1 - hop)  # a parabola: free fall between two bounces
        # There and back between the walls: a triangle wave.
        span = width - 2 * radius
        centre_x = radius + span - abs((start_x + speed * seconds) % (2 * span) - span)
        frame = room.copy()
        frame[(x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2] = ball
        return frame

    return paint


def _lights_blinking(rng: Generator, width: int, height: int) -> Painting:
    pitch = height / rng.uniform(4.5, 6)
    y, x = np.mgrid[:height, :width]
    row, column = (y / pitch).astype(int), (x / pitch).astype(int)
    radius = pitch * rng.uniform(0.34, 0.42)
    in_lamp = np.hypot(x % pitch - pitch / 2, y % pitch - pitch / 2) <= radius
    num_lamps = (row.max() + 1) * (column.max() + 1)
    lamp = np.where(in_lamp, 1 + row * (column.max() + 1) + column, 0)  # 0 is the wall between the lamps
    offset, blinks_per_second = rng.uniform(0, 1, num_lamps), rng.uniform(1.0, 2.5, num_lamps)
    wall, off, on = rng.uniform(0, 30, 3), rng.uniform(40, 90, 3), _bright(rng)

    def paint(seconds: float) -> Frame:
        shining = (offset + blinks_per_second * seconds) % 1 < 0.5
        palette = np.vstack([wall, np.where(shining[:, None], on, off)]).astype(np.uint8)
        return palette.take(lamp, axis=0)

    return paint


def _moving_waves(rng: Generator, waves: NDArray[np.float64], *, direction: int | None = None) -> Painting:
    """A wave pattern that moves on. `waves` counts, for each pixel, the waves between it and the origin."""
    # 256 steps make one wave: then the arithmetic of uint8, which wraps around, does the moving.
    steps = np.round(waves * 256).astype(np.int64).astype(np.uint8)
    hardness = rng.uniform(2, 4)
    weight = 0.5 + 0.5 * np.tanh(hardness * np.sin(np.arange(256) / 256 * 2 * np.pi)) / np.tanh(hardness)
    palette = _dark(rng) + weight[:, None] * (_bright(rng) - _dark(rng))
    colours = palette.clip(0, 255).astype(np.uint8)
    waves_per_second = rng.uniform(1.0, 2.5) * (direction or rng.choice([-1, 1]))
    start = rng.uniform(0, 1)

    def paint(seconds: float) -> Frame:
        shift = int((start + waves_per_second * seconds) * 256) % 256
        frame: Frame = colours.take(steps + np.uint8(shift), axis=0)
        return frame

    return paint


def _near_the_middle(rng: Generator, width: int, height: int) -> tuple[float, float]:
    return width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)


def _gradient(width: int, height: int, *, top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Frame:
    down = np.linspace(0, 1, height)[:, None, None]
    picture: Frame = np.broadcast_to(top + (bottom - top) * down, (height, width, 3)).astype(np.uint8)
    return picture


def _dark(rng: Generator) -> NDArray[np.float64]:
    return rng.uniform(0, 60, 3)


def _bright(rng: Generator) -> NDArray[np.float64]:
    return rng.uniform(180, 255, 3)


_PAINTERS: dict[str, Callable[[Generator, int, int], Painting]] = {
    "stripes sliding": _stripes_sliding,
    "rings expanding": _rings_expanding,
    "wheel spinning": _wheel_spinning,
    "snow falling": _snow_falling,
    "ball bouncing": _ball_bouncing,
    "lights blinking": _lights_blinking,
}

ACTIONS: tuple[str, ...] = tuple(_PAINTERS)
"""The labels, in the order of the model's outputs."""
