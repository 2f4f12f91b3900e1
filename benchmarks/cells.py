"""What a similarity search with cells finds of what comparing everything finds, and how long both take, among five million.

Embeddings of drawn clips by an untrained r3d_18, whose features tell actions apart (demo/checkpoint.py). There are CLIPS of
them; the others lie between two of the same action, and a little aside: an archive in which much looks alike. Examples are
clips that are not in the index. Recall: of the ten nearest. INDEXER_BENCH_SEGMENTS: how many, 5,000,000 by default.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo import actions
from indexer.config import Model, Sampling
from indexer.infer.classifier import Classifier
from indexer.infer.models import model_spec
from indexer.infer.network import build_network
from indexer.infer.weights import Weights
from indexer.search.cells import Cells
from indexer.search.dots import Float16s, Float32s, dots, some_dots, unit_vectors

CLIPS, EXAMPLES = 1800, 60
NEAREST = 10
PARTS = 50
PROBED = (4, 8, 16, 32, 64)
ASIDE = 0.5
"""Length of what is added in a random direction, against that of the way between two clips."""


def embeddings() -> tuple[NDArray[np.int64], Float32s]:
    """The action of each of CLIPS + EXAMPLES clips, and its unit vector [clips, 512]."""
    spec = model_spec(Model(name="r3d_18", weights="random"), Sampling(), None)
    random = Weights(None, "random-0")
    model = Classifier(spec, build_network(spec, random), random, precision="auto")
    count = CLIPS + EXAMPLES
    kinds = np.arange(count) % len(actions.ACTIONS)
    found = []
    for first in range(0, count, model.mode.batch_clips):
        clips = [
            drawn(actions.ACTIONS[kind], 10_000 + number)
            for number, kind in enumerate(kinds[first : first + model.mode.batch_clips], first)
        ]
        filled = clips + clips[-1:] * (model.mode.batch_clips - len(clips))
        found.append(model.predict(np.stack(filled))[1][: len(clips)])
    features = np.concatenate(found).astype(np.float32)
    features -= features[:CLIPS].mean(axis=0)  # untrained features have much in common
    return kinds, unit_vectors(features).astype(np.float32)


def drawn(action: str, seed: int) -> NDArray[np.uint8]:
    return np.stack(list(actions.frames(action, seed=seed, num_frames=16, fps=15, width=112, height=112)))


def index_of(kinds: NDArray[np.int64], clips: Float32s, segments: int) -> list[Float16s]:
    """Parts of unit vectors: all the clips, and vectors between two of the same action."""
    dice = np.random.default_rng(3)
    of_kind = {kind: np.flatnonzero(kinds[:CLIPS] == kind) for kind in set(kinds.tolist())}
    parts = []
    for number in range(PARTS):
        rows = segments // PARTS
        one = dice.integers(0, CLIPS, rows)
        other = np.empty(rows, np.int64)
        for kind, members in of_kind.items():
            chosen = kinds[one] == kind
            other[chosen] = dice.choice(members, int(chosen.sum()))
        way = (clips[other] - clips[one]) * dice.random((rows, 1), np.float32) * 0.5
        aside = dice.standard_normal(way.shape, np.float32)
        aside *= ASIDE * np.linalg.norm(way, axis=1, keepdims=True) / np.linalg.norm(aside, axis=1, keepdims=True)
        made = clips[one] + way + aside
        if number == 0:
            made[:CLIPS] = clips[:CLIPS]
        parts.append(unit_vectors(made))
    return parts


def main() -> dict[str, object]:
    segments = int(os.environ.get("INDEXER_BENCH_SEGMENTS", "5000000"))
    kinds, clips = embeddings()
    vectors = index_of(kinds, clips, segments)
    examples = clips[CLIPS:]
    parts = [(f"{number:064x}", part) for number, part in enumerate(vectors)]
    exact = [everything(vectors, example) for example in examples]
    figures: dict[str, object] = {"segments": segments, "width": vectors[0].shape[1]}
    with tempfile.TemporaryDirectory() as folder:
        cells = Cells(Path(folder) / "cells", note=lambda _: None)
        began = time.perf_counter()
        cells.near(parts, examples[0], probed=1)
        figures["learning_and_filling_s"] = round(time.perf_counter() - began)
        figures["all_compared_ms"] = milliseconds([lambda e=e: everything(vectors, e) for e in examples[:10]])
        for probed in PROBED:
            found = [probe(cells, parts, example, probed) for example in examples]
            share = statistics.mean(len(np.intersect1d(a, b)) / NEAREST for (a, _), b in zip(found, exact, strict=True))
            figures[f"{probed} cells"] = {
                "recall": round(share, 3),
                "compared": round(statistics.mean(count for _, count in found) / segments, 4),
                "ms": milliseconds([lambda e=e, p=probed: probe(cells, parts, e, p) for e in examples[:20]]),
            }
    return figures


def everything(vectors: list[Float16s], example: Float32s) -> NDArray[np.int64]:
    """The rows of the nearest, counted through all parts."""
    cosines = np.concatenate(dots(vectors, example, [None] * len(vectors)))
    return np.argpartition(-cosines, NEAREST)[:NEAREST]


def probe(cells: Cells, parts: list[tuple[str, Float16s]], example: Float32s, probed: int) -> tuple[NDArray[np.int64], int]:
    """The same from the nearest cells, and how many were compared."""
    near = cells.near(parts, example, probed=probed)
    starts = np.cumsum([0, *(len(part) for _, part in parts)])
    rows = np.concatenate([start + some for start, some in zip(starts, near, strict=False)])
    cosines = np.concatenate([some_dots(part, example, some) for (_, part), some in zip(parts, near, strict=True)])
    return rows[np.argpartition(-cosines, NEAREST)[:NEAREST]], len(rows)


def milliseconds(works: list[Callable[[], object]]) -> float:
    taken = []
    for work in works:
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(taken), 1)
