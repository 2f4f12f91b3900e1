"""How a model runs on this machine: number format, memory layout, batch size. Measured: no rule holds for all models."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from indexer.errors import ConfigError
from indexer.infer.modes import DTYPE_NAMES, Format, Mode

MIN_AGREEMENT = 0.999
"""Cosine between the embeddings of a faster mode and those of fp32; below it the mode is not used."""
CPU_BATCH_CLIPS = 4
"""On a CPU larger batches gain a fifth at most, and cost memory and a longer tail."""
CPU_BATCH_BYTES = 10 << 20
"""Fewer clips if they are large: more of them gain a tenth at most, and cost gigabytes (docs/decisions, 32)."""
GPU_BATCH_CLIPS = 8
"""The first size that is tried."""
GPU_BATCH_BYTES = 96 << 20
"""The largest batch. Four of them, in flight and in the making, must find room in the object store."""
MIN_GAIN = 1.05
TRIAL_CLIPS = 2
CLOSE = 1.3
"""What else the machine does makes one run so many times slower than the next, which does the same. What is chosen wrongly is
remembered, and costs every later run up to a fifth."""
GPU_ROUNDS = 3
HOPELESS = 4
"""So many times slower than fp32, one layer leaves no doubt. With instructions for bf16, or with AVX-512, it is faster or
about as fast; on a CPU with neither it is 10 to 30 times slower, and a network takes minutes for a clip."""

Run = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""See `Runner`."""


def bf16_slowdown(device: torch.device, *, convolutional: bool) -> float:
    """How many times as long as in fp32 a layer takes in bf16: a small one, of the kind that the network mostly has.

    On a CPU only; 1 on a GPU, whose modes are quick to try, and infinite on one without bf16.
    """
    if device.type == "cuda":
        return 1 if torch.cuda.is_bf16_supported() else math.inf
    layer = torch.nn.Conv3d(64, 64, 3, padding=1) if convolutional else torch.nn.Linear(256, 256)
    values = torch.zeros((1, 64, 4, 14, 14) if convolutional else (1024, 256))

    def seconds(dtype: torch.dtype) -> float:
        light, numbers = layer.to(dtype), values.to(dtype)

        def run(clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return clips, light(clips)

        return min(_time(run, numbers, warm=round_ == 0)[0] for round_ in range(5))

    with torch.inference_mode():
        return seconds(torch.bfloat16) / seconds(torch.float32)


def choose_mode(
    prepare: Callable[[Mode], Run],
    clip_shape: tuple[int, ...],
    precision: str,
    device: torch.device,
    *,
    convolutional: bool,
    slowdown: float,
) -> Mode:
    """The fastest mode that agrees with fp32, by timing what `prepare` makes for it on clips of `clip_shape` ([T, H, W, 3]).

    A `precision` other than `auto` leaves only the layout and the batch size to be measured, on a CPU with fp32 nothing; the
    layout matters to `convolutional` networks only. `slowdown` is what `bf16_slowdown` says. Raises ConfigError if the device
    cannot do the precision.
    """
    batch = cpu_batch_clips(clip_shape) if device.type == "cpu" else GPU_BATCH_CLIPS
    plain = Mode("fp32", False, False, batch)
    formats = _formats(precision, device, slowdown)
    # Where a CPU is quick with bf16, fp32 will not win in either layout; and who asks for fp32 gets what PyTorch does unasked.
    both_layouts = precision == "auto" and "bf16" not in formats
    candidates = [
        Mode(number_format, mixed, channels_last, batch)
        for number_format in formats
        for mixed in _ways(number_format, precision, convolutional=convolutional)
        for channels_last in ((False, True) if convolutional else (False,))
        if device.type != "cpu" or number_format != "fp32" or not channels_last or both_layouts
    ]
    if len(candidates) == 1:
        best = candidates[0]
    else:
        clips = torch.randint(
            0, 256, (min(TRIAL_CLIPS, batch), *clip_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        ).to(device)
        runs = {plain: prepare(plain)}
        reference_seconds, reference = _time(runs[plain], clips, warm=device.type != "cpu" or both_layouts)
        timed = {}
        for mode in candidates:
            if mode == plain:
                timed[mode] = reference_seconds
                continue
            if mode.mixed and not convolutional and any(better.format == mode.format for better in timed):
                continue  # the same format throughout agreed, and nothing is slower for it
            runs[mode] = prepare(mode)
            seconds, embedding = _time(runs[mode], clips)
            agrees = torch.cosine_similarity(reference, embedding).min().item() >= MIN_AGREEMENT
            if agrees or precision != "auto":
                timed[mode] = seconds
        best = fastest(timed, lambda mode: _time(runs[mode], clips, warm=False)[0])
    if device.type == "cpu":
        return best
    run = prepare(best)

    def seconds_for(size: int) -> float:
        clips = torch.zeros((size, *clip_shape), dtype=torch.uint8, device=device)  # copying is hidden, see `feeder`
        return statistics.median(_time(run, clips, warm=round_ == 0)[0] for round_ in range(GPU_ROUNDS))

    return replace(best, batch_clips=knee(seconds_for, most=max(1, GPU_BATCH_BYTES // math.prod(clip_shape))))


def fastest(timed: Mapping[Mode, float], again: Callable[[Mode], float]) -> Mode:
    """Of modes and the seconds that each took. Those that are close to the first are timed `again`."""
    close = {mode: seconds for mode, seconds in timed.items() if seconds <= CLOSE * min(timed.values())}
    if len(close) > 1:
        close = {mode: min(seconds, again(mode)) for mode, seconds in close.items()}
    return min(close, key=close.__getitem__)


def cpu_batch_clips(clip_shape: tuple[int, ...]) -> int:
    """For uint8 clips of this shape."""
    return max(1, min(CPU_BATCH_CLIPS, CPU_BATCH_BYTES // math.prod(clip_shape)))


def _formats(precision: str, device: torch.device, slowdown: float) -> tuple[Format, ...]:
    on_gpu = device.type == "cuda"
    if precision == "auto":
        if slowdown <= HOPELESS:
            return ("fp32", "bf16")
        return ("fp32", "fp16") if on_gpu else ("fp32",)
    if precision == "fp16" and not on_gpu:
        raise ConfigError("model.precision: fp16 needs a GPU; use auto, bf16 or fp32")
    if precision == "bf16" and not on_gpu and slowdown > HOPELESS:
        raise ConfigError(f"model.precision: bf16 is {slowdown:.0f} times slower than fp32 on this CPU; use auto or fp32")
    return tuple(name for name in DTYPE_NAMES if name == precision)


def _ways(number_format: Format, precision: str, *, convolutional: bool) -> tuple[bool, ...]:
    """What to try as Mode.mixed. Throughout only bf16, which has the range of fp32, and no convolutions: they gain nothing."""
    if number_format == "fp32":
        return (False,)
    if number_format == "fp16" or convolutional:
        return (True,)
    return (False, True) if precision == "auto" else (False,)


def _time(run: Run, clips: torch.Tensor, *, warm: bool = True) -> tuple[float, torch.Tensor]:
    """Seconds of one run, by default of a second one (the first one prepares kernels), and the embeddings.

    On a CPU they are CPU seconds: whatever else the machine has to do does not count.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    if warm:
        run(clips)
    _synchronise()
    began = clock()
    embedding = run(clips)[1]
    _synchronise()
    return clock() - began, embedding


def knee(seconds_for: Callable[[int], float], *, most: int) -> int:
    """The batch size from which doubling gains less than 5 % more clips a second, or does not fit into memory.

    `seconds_for` times one batch of a size, and raises torch.OutOfMemoryError.
    """
    size = min(GPU_BATCH_CLIPS, most)
    rate = _rate(seconds_for, size)
    while rate is None:
        if size == 1:
            raise torch.OutOfMemoryError("one clip alone does not fit into the memory of this GPU")
        size //= 2
        rate = _rate(seconds_for, size)
    while 2 * size <= most:
        larger = _rate(seconds_for, 2 * size)
        if larger is None or larger < MIN_GAIN * rate:
            break
        size, rate = 2 * size, larger
    return size


def _rate(seconds_for: Callable[[int], float], size: int) -> float | None:
    """Clips a second; None if there is not enough memory."""
    try:
        return size / seconds_for(size)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
