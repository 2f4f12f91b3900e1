"""The models on a GPU, without Ray and PyAV: needs torch and torchvision, nothing else.

    python -m benchmarks.gpu [--models MODEL ...] [--formats bf16 ...] [--batches 8 ...] [--seconds 3] [--device cpu]

For each model, format and batch size: clips a second with the clips on the GPU already, and TFLOP/s from the published
operation counts. Then the best of these, fed as a run feeds it (`indexer.infer.feeder`): uint8 clips out of this process's
memory, the next batch on its way while one is computed. Untrained weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torchvision.models import get_model, get_model_weights

from benchmarks.keeping import RESULTS, keep
from indexer.infer.feeder import Answers, Feeder

MODELS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
BATCHES = (1, 4, 8, 16, 32, 64, 128)
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"r3d_18": (16, 112), "mc3_18": (16, 112), "r2plus1d_18": (16, 112), "swin3d_t": (32, 224), "swin3d_s": (32, 224)}
"""Frames and pixels of one clip where they are not (16, 224)."""
SIZES |= {"swin3d_b": (32, 224), "s3d": (128, 224)}
PUBLISHED_FRAMES = 16
"""torchvision counts operations of clips of this length, whatever the model's own. They grow with it."""
CALLS_IN_FLIGHT = 2

Batch = torch.Tensor
"""uint8 [n, T, H, W, 3]."""


def clip_shape(name: str) -> tuple[int, int, int, int]:
    frames, pixels = SIZES.get(name, (16, 224))
    return frames, pixels, pixels, 3


def operations(name: str) -> float:
    """For one clip; torchvision counts a multiplication and its addition as one, they are two here."""
    published = 2e9 * float(get_model_weights(name)["KINETICS400_V1"].meta["_ops"])
    return published * clip_shape(name)[0] / PUBLISHED_FRAMES


def forward(network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> Callable[[Batch], torch.Tensor]:
    """What a classifier does with a batch on the device: normalise, run, softmax."""
    convolutional = any(isinstance(layer, torch.nn.BatchNorm3d) for layer in network.modules())
    layout = torch.channels_last_3d if convolutional else torch.contiguous_format
    network.to(device, memory_format=layout)

    @torch.inference_mode()
    def run(batch: Batch) -> torch.Tensor:
        scaled = batch.permute(0, 4, 1, 2, 3).float() / 255 - 0.45
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: torch.Tensor = network(scaled.contiguous(memory_format=layout))
        return torch.softmax(logits.float(), dim=1)

    return run


def fed(feeder: Feeder, host: Batch) -> Iterator[Batch]:
    """The same batch again and again, one upload ahead."""
    pixels = host.numpy()
    following = feeder.upload(pixels, len(pixels))
    while True:
        ready, following = following, feeder.upload(pixels, len(pixels))
        yield feeder.take(ready)


def clips_per_second(
    run: Callable[[Batch], torch.Tensor], batches: Iterator[Batch], feeder: Feeder, seconds: float, *, warm: int
) -> float:
    for _ in range(warm):
        feeder.fetch(run(next(batches))).arrays()
    began, clips = time.perf_counter(), 0
    waiting: list[Answers] = []
    while not clips or time.perf_counter() - began < seconds:
        batch = next(batches)
        waiting.append(feeder.fetch(run(batch)))
        if len(waiting) > CALLS_IN_FLIGHT:
            waiting.pop(0).arrays()
        clips += len(batch)
    for answers in waiting:
        answers.arrays()
    return clips / (time.perf_counter() - began)


def measure(
    name: str, device: torch.device, seconds: float, formats: Sequence[str] = (), batches: Sequence[int] = ()
) -> dict[str, object]:
    feeder, warm = Feeder(device), 3 if device.type == "cuda" else 0
    rates: dict[str, dict[int, float]] = {}
    run_of: dict[str, Callable[[Batch], torch.Tensor]] = {}
    for number_format in formats or FORMATS:
        if device.type == "cpu" and number_format == "fp16":
            continue
        run = run_of[number_format] = forward(get_model(name, weights=None).eval(), device, FORMATS[number_format])
        rates[number_format] = {}
        for size in batches or BATCHES:
            try:
                batch = torch.randint(0, 256, (size, *clip_shape(name)), dtype=torch.uint8, device=device)
                resident = iter(lambda batch=batch: batch, None)
                rates[number_format][size] = round(clips_per_second(run, resident, feeder, seconds, warm=warm), 2)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
    rate, number_format, size = max((rate, f, size) for f, found in rates.items() for size, rate in found.items())
    host = torch.randint(0, 256, (size, *clip_shape(name)), dtype=torch.uint8)
    fed_rate = clips_per_second(run_of[number_format], fed(feeder, host), feeder, seconds, warm=warm)
    tera = operations(name) / 1e12
    return {
        "clips_per_second": rates,
        "best": {"format": number_format, "batch": size, "tflop_per_second": round(rate * tera, 2)},
        "fed_clips_per_second": round(fed_rate, 2),
        "fed_tflop_per_second": round(fed_rate * tera, 2),
        "fed_over_resident": round(fed_rate / rate, 2),
    }


def main(arguments: Sequence[str] = ()) -> dict[str, object]:
    """Nothing where there is no GPU, and none was given up."""
    options = _options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here: nothing is measured (--device cpu measures this machine instead)")
        return {}
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    figures: dict[str, object] = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    for model in options.models:
        figures[model] = measure(model, device, options.seconds, options.formats, options.batches)
        print(model, figures[model], flush=True)
    return figures


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=(), metavar="FORMAT")
    parser.add_argument("--batches", nargs="+", type=int, default=(), metavar="CLIPS")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for gpu.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    import sys

    if found := main(sys.argv[1:]):
        keep("gpu", found, _options(sys.argv[1:]).results)
