"""How many clips a CPU should take at once, and what it costs to give memory back after each batch (`infer/heap.py`).

Wall and CPU seconds for a clip and the most memory of the process, bf16, untrained weights. Each figure is of a process of its
own, in turns: the sizes with memory that is kept, and the largest one with memory that is given back.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby

import numpy as np
import torch

from indexer.config import Model, Sampling
from indexer.infer import classifier
from indexer.infer.models import model_spec
from indexer.infer.modes import Mode
from indexer.infer.network import build_network
from indexer.infer.weights import Weights

RANDOM = Weights(None, "random-0")
TURNS, ROUNDS = 2, 3
BATCHES = (1, 2, 4)
MODES = {"r3d_18": True, "mvit_v2_s": False, "swin3d_t": False, "s3d": True}
"""Model -> whether channels_last_3d, as `precision: auto` chooses."""


def measure(name: str, channels_last: bool, size: int, kept: bool) -> dict[str, float]:
    """In a process where nothing was measured before."""
    if not kept:
        classifier.keep_freed_memory = lambda: None  # type: ignore[assignment]
    spec = model_spec(Model(name=name, weights="random"), Sampling(), None)
    mode = Mode("bf16", channels_last, channels_last, size)
    worker = classifier.Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="bf16", mode=mode)
    height, width = spec.geometry.crop
    shape = (size, spec.geometry.frames, height, width, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wall, cpu = [], []
    for number in range(1 + ROUNDS):
        began, cpu_began = time.perf_counter(), time.process_time()
        worker.predict(clips)
        if number:  # the first one prepares kernels
            wall.append((time.perf_counter() - began) / size)
            cpu.append((time.process_time() - cpu_began) / size)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu), "mebibytes": most}


def main() -> dict[str, object]:
    figures: dict[str, object] = {"torch": torch.__version__, "format": "bf16", "turns": TURNS}
    fresh = multiprocessing.get_context("spawn")
    for name, channels_last in MODES.items():
        settings = [*((size, True) for size in BATCHES), (max(BATCHES), False)]
        taken = []
        with ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as processes:
            for _ in range(TURNS):
                taken += [(one, processes.submit(measure, name, channels_last, *one).result()) for one in settings]
        found = {}
        for (size, kept), turns in groupby(sorted(taken, key=lambda one: one[0]), key=lambda one: one[0]):
            measured = [of_turn for _, of_turn in turns]
            medians = {key: round(statistics.median(one[key] for one in measured), 3) for key in measured[0]}
            found[f"{size}, memory {'kept' if kept else 'given back'}"] = medians
        figures[name] = found
        print(name, found, flush=True)
    return figures
