"""The models on a GPU, without Ray and without the rest of this package: needs torch and torchvision, nothing else.

    python -m benchmarks.gpu [MODEL ...] [--seconds 3]

For each model, format and batch size: clips a second with the clips on the GPU already, and TFLOP/s from the published
operation counts (torchvision counts a multiplication and its addition as one; they are two here). Then the best of these, fed
with uint8 clips from pinned host memory, the next batch on its way while one is computed. Untrained weights. On a CPU it runs,
too, slowly.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import torch
from torchvision.models import get_model, get_model_weights

MODELS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
BATCHES = (1, 4, 8, 16, 32, 64)
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"r3d_18": (16, 112), "mc3_18": (16, 112), "r2plus1d_18": (16, 112), "swin3d_t": (32, 224), "swin3d_s": (32, 224)}
"""Frames and pixels of one clip where they are not (16, 224)."""
SIZES |= {"swin3d_b": (32, 224), "s3d": (128, 224)}

Batch = torch.Tensor
"""uint8 [n, T, H, W, 3]."""


def clip_shape(name: str) -> tuple[int, int, int, int]:
    frames, pixels = SIZES.get(name, (16, 224))
    return frames, pixels, pixels, 3


def forward(network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> Callable[[Batch], torch.Tensor]:
    """What a classifier does with a batch on the device: normalise, run, take the best label."""
    convolutional = any(isinstance(layer, torch.nn.BatchNorm3d) for layer in network.modules())
    layout = torch.channels_last_3d if convolutional else torch.contiguous_format
    network.to(device, memory_format=layout)

    @torch.inference_mode()
    def run(batch: Batch) -> torch.Tensor:
        scaled = batch.permute(0, 4, 1, 2, 3).float() / 255 - 0.45
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: torch.Tensor = network(scaled.contiguous(memory_format=layout))
        return logits.argmax(dim=1)

    return run


def resident(run: Callable[[Batch], torch.Tensor], batch: Batch, seconds: float) -> float:
    """Clips a second, of one batch that stays on the device."""
    return _rate(run, iter(lambda: batch, None), len(batch), seconds)


def fed(run: Callable[[Batch], torch.Tensor], host: Batch, device: torch.device, seconds: float) -> float:
    """Clips a second, each batch copied from host memory while the one before is computed."""
    return _rate(run, uploaded(host, device), len(host), seconds)


def uploaded(host: Batch, device: torch.device) -> Iterator[Batch]:
    """The same batch again and again, one upload ahead, on a stream of its own."""
    if device.type != "cuda":
        while True:
            yield host.to(device)
    host = host.pin_memory()
    uploads = torch.cuda.Stream(device)
    following: tuple[Batch, torch.cuda.Event] | None = None
    while True:
        with torch.cuda.stream(uploads):
            batch, done = host.to(device, non_blocking=True), torch.cuda.Event()
            done.record(uploads)
        if following is not None:
            ready, arrived = following
            torch.cuda.current_stream(device).wait_event(arrived)
            ready.record_stream(torch.cuda.current_stream(device))  # or its memory would be given away too early
            yield ready
        following = batch, done


def _rate(run: Callable[[Batch], torch.Tensor], batches: Iterator[Batch], clips: int, seconds: float) -> float:
    for _ in range(3):
        run(next(batches)).cpu()
    began, count = time.perf_counter(), 0
    waiting: list[torch.Tensor] = []
    while time.perf_counter() - began < seconds:
        waiting.append(run(next(batches)))
        if len(waiting) > 2:  # as a worker with two calls in flight
            waiting.pop(0).cpu()
        count += clips
    for answer in waiting:
        answer.cpu()
    return count / (time.perf_counter() - began)


def measure(name: str, device: torch.device, seconds: float) -> dict[str, object]:
    operations = 2e9 * float(get_model_weights(name)["KINETICS400_V1"].meta["_ops"])
    run_of = {f: forward(get_model(name, weights=None).eval(), device, dtype) for f, dtype in FORMATS.items()}
    rates: dict[str, dict[int, float]] = {}
    for number_format, run in run_of.items():
        if device.type == "cpu" and number_format == "fp16":
            continue
        rates[number_format] = {}
        for size in BATCHES:
            batch = torch.randint(0, 256, (size, *clip_shape(name)), dtype=torch.uint8, device=device)
            try:
                rates[number_format][size] = round(resident(run, batch, seconds), 1)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
    rate, number_format, size = max((rate, f, size) for f, found in rates.items() for size, rate in found.items())
    host = torch.randint(0, 256, (size, *clip_shape(name)), dtype=torch.uint8)
    fed_rate = fed(run_of[number_format], host, device, seconds)
    return {
        "clips_per_second": rates,
        "best": {"format": number_format, "batch": size, "tflop_per_second": round(rate * operations / 1e12, 1)},
        "fed_clips_per_second": round(fed_rate, 1),
        "fed_over_resident": round(fed_rate / rate, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=MODELS, default=[], metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    figures: dict[str, object] = {"device": name, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    for model in arguments.models or MODELS:
        figures[model] = measure(model, device, arguments.seconds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
