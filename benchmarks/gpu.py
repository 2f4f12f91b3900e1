"""The models on a GPU, without Ray and PyAV: needs torch and torchvision, nothing else.

    python -m benchmarks.gpu [--models MODEL ...] [--formats bf16 ...] [--batches 8 ...] [--seconds 1] [--device cpu]

For each model, format and batch size: clips a second with the clips on the GPU already, and TFLOP/s from the published
operation counts. Then, in the mode and batch that `precision: auto` finds for itself, fed as a run feeds it: uint8 clips out
of this process's memory, asked for by two threads, the next batch on its way while one is computed. Untrained weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.keeping import RESULTS, keep
from indexer.infer.classifier import Classifier
from indexer.infer.feeder import Answers, Feeder
from indexer.infer.models import MODELS, PUBLISHED_FRAMES, ModelEntry, ModelSpec, find_entry, published_spec, weights_object
from indexer.infer.modes import Format, Mode
from indexer.infer.network import build_network
from indexer.infer.runner import Runner
from indexer.infer.weights import Weights

NAMES = tuple(dict.fromkeys(entry.name for entry in MODELS))
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "fp16")
BATCHES = (1, 4, 16, 64, 128)
LARGEST_BATCH_BYTES = 320 << 20
RANDOM = Weights(None, "random-0")
WARM_UPS = 2
"""None where a figure may take no time: there it is not to be trusted anyway."""
CALLS_IN_FLIGHT = 2
"""As `indexer.execute.calls` has it."""


def operations(entry: ModelEntry) -> float:
    """For one clip; torchvision counts a multiplication and its addition as one, they are two here."""
    return 2e9 * float(weights_object(entry).meta["_ops"]) * entry.frames / PUBLISHED_FRAMES


def clip_shape(spec: ModelSpec) -> tuple[int, int, int, int]:
    return (spec.geometry.frames, *spec.geometry.crop, 3)


def resident(run: Runner, batch: torch.Tensor, feeder: Feeder, seconds: float) -> float:
    """Clips a second, of a batch that is on the device."""
    waiting: list[Answers] = []

    def one() -> int:
        waiting.append(feeder.fetch(*run(batch)))
        if len(waiting) > CALLS_IN_FLIGHT:
            waiting.pop(0).arrays()
        return len(batch)

    return rate(one, seconds, lambda: [answers.arrays() for answers in waiting])


def fed(classifier: Classifier, batch: np.ndarray, seconds: float) -> float:
    """Clips a second, of batches out of this process's memory."""

    def calls(share: float) -> int:
        done, ends = 0, time.perf_counter() + share
        while not done or time.perf_counter() < ends:
            classifier.predict(batch)
            done += len(batch)
        return done

    with ThreadPoolExecutor(CALLS_IN_FLIGHT) as threads:

        def both(share: float) -> int:
            return sum(threads.map(calls, [share] * CALLS_IN_FLIGHT))

        return rate(lambda: both(seconds), seconds, lambda: None, warm=lambda: both(0.0))


def rate(
    one: Callable[[], int], seconds: float, settle: Callable[[], object], warm: Callable[[], object] | None = None
) -> float:
    for _ in range(WARM_UPS if seconds else 0):
        (warm or one)()
    settle()
    began, clips = time.perf_counter(), 0
    while not clips or time.perf_counter() - began < seconds:
        clips += one()
    settle()
    return clips / (time.perf_counter() - began)


def mode_of(number_format: Format, *, convolutional: bool) -> Mode:
    """What `precision: auto` would try of this format, see `indexer.infer.precision`."""
    mixed = number_format == "fp16" or (number_format == "bf16" and convolutional)
    return Mode(number_format, mixed, convolutional and number_format != "fp32", 1)


def measure(
    entry: ModelEntry, device: torch.device, seconds: float, formats: Sequence[Format] = (), batches: Sequence[int] = ()
) -> dict[str, object]:
    spec, feeder = published_spec(entry), Feeder(device)
    shape, tera = clip_shape(spec), operations(entry) / 1e12
    convolutional = any(isinstance(layer, torch.nn.BatchNorm3d) for layer in build_network(spec, RANDOM).modules())
    rates: dict[str, dict[int, float]] = {}

    def rate_of(mode: Mode, size: int, run: Runner) -> float:
        batch = torch.randint(0, 256, (size, *shape), dtype=torch.uint8, device=device)
        return round(resident(run, batch, feeder, seconds), 2)

    for number_format in formats or FORMATS:
        if device.type == "cpu" and number_format == "fp16":
            continue
        mode = mode_of(number_format, convolutional=convolutional)
        run = Runner(spec, build_network(spec, RANDOM), mode, device)
        rates[number_format] = {}
        for size in batches or BATCHES:
            if size > 1 and size * math.prod(shape) > LARGEST_BATCH_BYTES:
                break
            try:
                rates[number_format][size] = rate_of(mode, size, run)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
    best, number_format, size = max((found, f, size) for f, sizes in rates.items() for size, found in sizes.items())
    classifier = Classifier(spec, build_network(spec, RANDOM), RANDOM, precision="auto")
    chosen = classifier.mode
    same = rate_of(chosen, chosen.batch_clips, Runner(spec, build_network(spec, RANDOM), chosen, device))
    host = np.random.default_rng(0).integers(0, 256, (chosen.batch_clips, *shape), dtype=np.uint8)
    fed_rate = fed(classifier, host, seconds)
    return {
        "clips_per_second": rates,
        "best": {"format": number_format, "batch": size, "tflop_per_second": round(best * tera, 2)},
        "chosen": {"mode": str(chosen), "clips_per_second": same, "tflop_per_second": round(same * tera, 2)},
        "fed_clips_per_second": round(fed_rate, 2),
        "fed_over_resident": round(fed_rate / same, 2),
    }


def matrix_product(device: torch.device, seconds: float) -> float:
    """TFLOP/s of bf16 at its best: two square matrices."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    feeder = Feeder(device)
    per_second = rate(lambda: len(feeder.fetch((left @ right)[0, 0].float()).arrays()), seconds, lambda: None)
    return round(2 * side**3 * per_second / 1e12, 2)


def main(arguments: Sequence[str] = ()) -> dict[str, object]:
    """Nothing where there is no GPU, and none was given up."""
    options = _options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here: nothing is measured (--device cpu measures this machine instead)")
        return {}
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    figures: dict[str, object] = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    figures["bf16_matrix_product_tflop_per_second"] = matrix_product(device, options.seconds)
    for model in options.models:
        figures[model] = measure(find_entry(model, ""), device, options.seconds, options.formats, options.batches)
        print(model, figures[model], flush=True)
    return figures


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES, metavar="MODEL")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=(), metavar="FORMAT")
    parser.add_argument("--batches", nargs="+", type=int, default=(), metavar="CLIPS")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for gpu.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    import sys

    if found := main(sys.argv[1:]):
        keep("gpu", found, _options(sys.argv[1:]).results / "gpu.json")
