"""How many clips a CPU should take at once: CPU seconds for a clip in batches of different sizes, bf16. Untrained weights."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from indexer.config import Model, Sampling
from indexer.infer.classifier import Classifier
from indexer.infer.models import model_spec
from indexer.infer.modes import Mode
from indexer.infer.network import build_network
from indexer.infer.weights import Weights

RANDOM = Weights(None, "random-0")
ROUNDS = 2
BATCHES = (1, 2, 4, 8)
MODES = {"r3d_18": True, "mvit_v2_s": False, "s3d": True}
"""Model -> whether channels_last_3d, as `precision: auto` chooses."""


def seconds_per_clip(name: str, channels_last: bool) -> dict[int, float]:
    spec = model_spec(Model(name=name, weights="random"), Sampling(), None)
    modes = [Mode("bf16", channels_last, size) for size in BATCHES]
    network = build_network(spec, RANDOM)
    height, width = spec.geometry.crop
    shape = (max(BATCHES), spec.geometry.frames, height, width, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    classifier = Classifier(spec, network, RANDOM, precision="bf16", mode=modes[0])
    classifier.predict(clips[:1])  # prepares kernels
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        for mode in modes:
            classifier.mode = mode
            began = time.process_time()
            classifier.predict(clips[: mode.batch_clips])
            taken[mode.batch_clips].append((time.process_time() - began) / mode.batch_clips)
    return {size: round(statistics.median(values), 3) for size, values in taken.items()}


def main() -> dict[str, object]:
    figures: dict[str, object] = {"torch": torch.__version__, "rounds": ROUNDS, "format": "bf16"}
    for name, channels_last in MODES.items():
        figures[name] = {"cpu_seconds_per_clip": seconds_per_clip(name, channels_last)}
        print(name, figures[name], flush=True)
    return figures
