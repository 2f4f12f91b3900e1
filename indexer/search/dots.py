"""How near are these vectors to that one: an exact scan over float16 rows. All of it is arithmetic.

numpy turns float16 into float32 one number at a time. The same is done here with whole blocks of bits, and five times as fast:

    float16    s eeeee mmmmmmmmmm                     moved left by 13, with the sign at the top, this is the float32 of
    float32    s 000eeeee mmmmmmmmmm0000000000000     the same number times 2**-112; the query makes up for it

It is right for all finite numbers, also the subnormal ones; not for infinity and NaN.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float16s = NDArray[np.float16]
Float32s = NDArray[np.float32]

BLOCK_ROWS = 2048
"""Rows that are turned into float32 at a time: 4 MB of 512 numbers, which stay near the core."""
_SHARE_BLOCKS = 32
_BITS_MOVED = 13
_SIGN_AND_NUMBER = np.int32(-0x70002000)  # 0x8fffe000: what copies of the sign bit leave behind is cut off
_MADE_UP = np.float32(2.0**112)


def dots(vectors: Sequence[Float16s], query: Float32s, wanted: Sequence[NDArray[np.bool_] | None]) -> list[Float32s]:
    """The dot product of each row of each of `vectors` [n, width], finite, with `query` [width].

    `wanted` says for each of them which rows [n] are asked for, or None for all; the others get -inf. Uses all cores, each
    with one block of memory.
    """
    answers = [np.full(len(rows), -np.inf, np.float32) for rows in vectors]
    scaled = np.asarray(query, np.float32) * _MADE_UP

    def scan(share: tuple[int, int]) -> None:
        number, first = share
        stop = min(first + _SHARE_BLOCKS * BLOCK_ROWS, len(vectors[number]))
        _scan(vectors[number][first:stop], scaled, _part(wanted[number], first, stop), answers[number][first:stop])

    shares = [(i, first) for i, rows in enumerate(vectors) for first in range(0, len(rows), _SHARE_BLOCKS * BLOCK_ROWS)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as cores:
        list(cores.map(scan, shares))
    return answers


def some_dots(vectors: Float16s, query: Float32s, rows: NDArray[np.int64] | slice) -> Float32s:
    """The same numbers as `dots`, of these rows only: for few of many."""
    cosines: Float32s = np.vecdot(vectors[rows].astype(np.float32), np.asarray(query, np.float32))
    return cosines


def unit_vectors(vectors: NDArray[Any]) -> Float16s:
    """Rows [n, width] of length 1. One that has no direction (zero, or not finite) becomes zero: near to nothing."""
    units = np.empty(vectors.shape, np.float16)
    for first in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[first : first + BLOCK_ROWS].astype(np.float32)
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        usable = np.isfinite(lengths) & (lengths > 0)
        units[first : first + BLOCK_ROWS] = np.where(usable, block, 0) / np.where(usable, lengths, 1)
    return units


def mean_direction(units: NDArray[Any]) -> Float32s:
    """The mean [width] of rows [n, width], with length 1; zero if they have none together."""
    mean = units.astype(np.float32).mean(axis=0)
    length = np.linalg.norm(mean)
    return np.asarray(mean / length if length > 0 else mean, np.float32)


def _scan(vectors: Float16s, scaled: Float32s, wanted: NDArray[np.bool_] | None, answers: Float32s) -> None:
    bits = np.ascontiguousarray(vectors).view(np.int16)
    block = np.empty((min(BLOCK_ROWS, len(bits)), bits.shape[1]), np.int32)
    for first in range(0, len(bits), BLOCK_ROWS):
        stop = min(first + BLOCK_ROWS, len(bits))
        asked = _part(wanted, first, stop)
        if asked is not None and not asked.any():
            continue
        number = block[: stop - first]
        np.copyto(number, bits[first:stop])  # repeats the sign bit to the left
        np.left_shift(number, _BITS_MOVED, out=number)
        np.bitwise_and(number, _SIGN_AND_NUMBER, out=number)
        np.vecdot(number.view(np.float32), scaled, out=answers[first:stop])
        if asked is not None:
            answers[first:stop][~asked] = -np.inf


def _part(wanted: NDArray[np.bool_] | None, first: int, stop: int) -> NDArray[np.bool_] | None:
    return None if wanted is None else wanted[first:stop]
