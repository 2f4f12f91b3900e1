"""All nine models on this machine: CPU seconds per clip (seconds of the GPU where there is one) in the mode that
`precision: auto` chooses, against fp32 as PyTorch runs it unasked, and how far the outputs agree. Untrained weights, clips of
the models' own recipe. The networks that run unasked do so in a process of their own, whose memory is handled as anywhere.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache

import numpy as np
import torch

from indexer.config import Model, Sampling
from indexer.infer.classifier import Classifier
from indexer.infer.models import MODELS, PUBLISHED_FRAMES, ModelEntry, model_spec, weights_object
from indexer.infer.modes import Mode
from indexer.infer.network import build_network
from indexer.infer.weights import Weights

ROUNDS = 3
RANDOM = Weights(None, "random-0")


def seconds(work: Callable[[], object]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    work()  # ends with a copy to the host: nothing is left running on a GPU
    return clock() - began


@cache
def _unasked(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    spec = model_spec(Model(name=name, weights="random"), Sampling(), None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return build_network(spec, RANDOM).to(device), torch.rand(1, 3, spec.geometry.frames, *spec.geometry.crop, device=device)


def unasked_seconds(name: str) -> float:
    """Of fp32 as PyTorch runs it, for one clip."""
    network, clip = _unasked(name)
    with torch.inference_mode():
        return seconds(lambda: network(clip).cpu())


def compare(entry: ModelEntry, unasked: Executor) -> dict[str, object]:
    spec = model_spec(Model(name=entry.name, weights="random"), Sampling(), None)
    plain = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="fp32", mode=Mode("fp32", False, False, 1))
    chosen = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto")
    batch = chosen.mode.batch_clips
    height, width = spec.geometry.crop
    clips = np.random.default_rng(0).integers(0, 256, (batch, spec.geometry.frames, height, width, 3), dtype=np.uint8)
    expected, found = plain.predict(clips[:1])[1], chosen.predict(clips)[1][:1]
    taken: dict[str, list[float]] = {"plain": [], "chosen": []}
    unasked.submit(unasked_seconds, entry.name).result()  # prepares kernels
    for _ in range(ROUNDS):
        taken["plain"].append(unasked.submit(unasked_seconds, entry.name).result())
        taken["chosen"].append(seconds(lambda: chosen.predict(clips)) / batch)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    giga_operations = weights_object(entry).meta["_ops"] * spec.geometry.frames / PUBLISHED_FRAMES
    return {
        "mode": str(chosen.mode),
        "fp32_seconds_per_clip": round(medians["plain"], 3),
        "seconds_per_clip": round(medians["chosen"], 3),
        "times_faster": round(medians["plain"] / medians["chosen"], 2),
        "cosine_of_embeddings": round(float((expected * found).sum() / np.linalg.norm(expected) / np.linalg.norm(found)), 6),
        "giga_operations_per_second": round(giga_operations / medians["chosen"], 1),
    }


def main() -> dict[str, object]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    figures: dict[str, object] = {"device": device, "torch": torch.__version__, "rounds": ROUNDS}
    for entry in MODELS[:9]:  # the tenth entry is swin3d_b with other weights
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as unasked:
            figures[entry.name] = compare(entry, unasked)
        print(entry.name, figures[entry.name], flush=True)
    return figures
