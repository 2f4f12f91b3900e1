"""Cells: which segments lie in which neighbourhood, so that of many millions only those near an example are compared.

    INDEX-cells/centroids.npz           directions [cells, width], learned once from a sample of the index
    INDEX-cells/SHA256-LEARNED.npy      of one part: where each cell begins [cells + 1], and its rows in their order [rows]

The inverted file of Jegou, Douze and Schmid (2011), without its compression: the vectors stay in the shards, and what is
compared is compared exactly. So a search may miss a segment whose cell was not looked into, but it never gives a wrong score,
and what is live or asked for is decided as in a search without cells. Learning and assigning are left to faiss.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexer.errors import OutputError
from indexer.search.dots import Float16s, Float32s

FROM_SEGMENTS = 5_000_000
"""Live segments from which cells are used: all of them are compared in about 0.6 s on two cores."""
PROBED = 16
"""Cells that are looked into (python -m benchmarks cells)."""
_SAMPLED_PER_CELL = 64
_ROUNDS = 10
_OUTGROWN = 4
"""Cells are learned anew when the index has grown so many times since."""
_BLOCK_ROWS = 65_536

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def has_faiss() -> bool:
    return find_spec("faiss") is not None


class Cells:
    """The cells of one index. Its files may be deleted at any time: they are made again."""

    def __init__(self, folder: Path, *, note: Callable[[str], None]) -> None:
        """They lie in `folder`, which nothing else uses; `note` hears of work that takes a while."""
        self._folder = folder
        self._note = note

    @property
    def learned(self) -> bool:
        """Whether the next search need not learn them, which takes minutes."""
        return (self._folder / _CENTROIDS).exists()

    def near(self, parts: Sequence[tuple[str, Float16s]], query: Float32s, *, probed: int) -> list[NDArray[np.int64]]:
        """For each part (its sha256 and vectors [rows, width]): its rows in the `probed` cells nearest to `query`, in order.

        Raises OutputError if there is no room for the cells.
        """
        centroids, learned = self._learned([vectors for _, vectors in parts])
        probed = min(probed, len(centroids))
        cells = np.argpartition(-(centroids @ query), probed - 1)[:probed]
        found = []
        for sha256, vectors in parts:
            order, begins = self._of_part(sha256, vectors, centroids, learned)
            rows = np.concatenate([order[begins[cell] : begins[cell + 1]] for cell in cells])
            found.append(np.sort(rows).astype(np.int64))
        return found

    def keep(self, live: Iterable[str]) -> None:
        """Remove what belongs to parts with other sha256."""
        kept = set(live)
        with suppress(OSError):  # no folder yet
            for path in list(self._folder.iterdir()):
                if path.name != _CENTROIDS and path.name.partition("-")[0] not in kept:
                    path.unlink(missing_ok=True)

    def _learned(self, vectors: Sequence[Float16s]) -> tuple[Float32s, str]:
        """The directions, and what names them."""
        rows, width = sum(map(len, vectors)), vectors[0].shape[1]
        with suppress(*_UNREADABLE), (self._folder / _CENTROIDS).open("rb") as file, np.load(file) as known:
            centroids = known["centroids"]
            if centroids.ndim == 2 and centroids.shape[1] == width and rows <= _OUTGROWN * int(known["rows"]):
                return centroids, _digest(centroids)
        count = 1 << round(math.log2(max(1.0, math.sqrt(rows))))
        self._note(f"learning {count:,} cells from a sample of {rows:,} segments, once ...")
        centroids = _learn(_sample(vectors, _SAMPLED_PER_CELL * count), count)
        self._write(_CENTROIDS, lambda file: np.savez(file, centroids=centroids, rows=np.int64(rows)))
        return centroids, _digest(centroids)

    def _of_part(
        self, sha256: str, vectors: Float16s, centroids: Float32s, learned: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows of a part in the order of their cells [rows], and where each cell begins [cells + 1]. Mapped."""
        name, edges = f"{sha256}-{learned}.npy", len(centroids) + 1
        with suppress(*_UNREADABLE):
            both = np.load(self._folder / name, mmap_mode="r")
            if both.shape == (edges + len(vectors),):
                return both[edges:], both[:edges]
        self._note(f"putting {len(vectors):,} segments into their cells, once ...")
        cells = _assign(vectors, centroids)
        order = np.argsort(cells, kind="stable").astype(np.int32)
        begins = np.searchsorted(cells[order], np.arange(edges)).astype(np.int32)
        self._write(name, lambda file: np.save(file, np.concatenate([begins, order])))
        return order, begins

    def _write(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        unfinished = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(".tmp", dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                write(file)
            Path(unfinished).replace(self._folder / name)
        except OSError as error:
            raise OutputError(f"{self._folder}: {error.strerror}. XDG_CACHE_HOME moves it to another disk.") from error
        finally:
            if unfinished is not None:
                Path(unfinished).unlink(missing_ok=True)


_CENTROIDS = "centroids.npz"


def _sample(vectors: Sequence[Float16s], count: int) -> Float32s:
    """About so many rows, evenly spaced."""
    step = max(1, sum(map(len, vectors)) // count)
    return np.concatenate([rows[::step] for rows in vectors]).astype(np.float32)


def _learn(sample: Float32s, count: int) -> Float32s:
    import faiss  # a second, for large indexes only

    clustering = faiss.Kmeans(
        sample.shape[1], min(count, len(sample)), niter=_ROUNDS, spherical=True, seed=7, min_points_per_centroid=1
    )
    clustering.train(sample)
    return np.asarray(clustering.centroids, np.float32)


def _assign(vectors: Float16s, centroids: Float32s) -> NDArray[np.int64]:
    """The nearest centroid of each row."""
    import faiss

    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    blocks = (vectors[first : first + _BLOCK_ROWS].astype(np.float32) for first in range(0, len(vectors), _BLOCK_ROWS))
    return np.concatenate([np.empty(0, np.int64), *(index.search(block, 1)[1][:, 0] for block in blocks)])


def _digest(centroids: Float32s) -> str:
    return hashlib.sha256(np.ascontiguousarray(centroids).tobytes()).hexdigest()[:16]
