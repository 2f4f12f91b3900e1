"""How a network runs on a machine, and a memory of it, so that it is measured once and not in every nightly run.

Importing this module imports no torch: the driver only passes modes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from indexer.infer.memory import recall, remember
from indexer.infer.models import ModelSpec
from indexer.infer.weights import Weights

if TYPE_CHECKING:
    import torch

Format = Literal["fp32", "bf16", "fp16"]
DTYPE_NAMES: dict[Format, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What torch calls them."""

_MEASUREMENT = 4
"""Raise it when networks run otherwise than they did: what was measured before is measured again."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run a network."""

    format: Format
    mixed: bool
    """Only the layers that gain from it compute in `format`, as torch's autocast has it, what is between them in fp32."""
    channels_last: bool
    """Memory layout of the clips and weights: channels_last_3d, or contiguous."""
    batch_clips: int

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.format}{' mixed' if self.mixed else ''}, {layout}, batches of {self.batch_clips}"


def machine_key(spec: ModelSpec, weights: Weights, precision: str, device: torch.device) -> str:
    """Everything that the measurement depends on: how well a faster mode agrees with fp32 is a matter of the weights, too."""
    import torch

    geometry = spec.geometry
    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    else:
        chip = f"{_cpu_name()} {torch.backends.cpu.get_cpu_capability()} x{torch.get_num_threads()}"
    size = f"{geometry.frames}x{geometry.crop[0]}x{geometry.crop[1]}"
    return f"{_MEASUREMENT} {spec.entry.name} {weights.sha256[:16]} {size} {precision} torch-{torch.__version__} {chip}"


def remembered_mode(key: str) -> Mode | None:
    """The mode of an earlier measurement; None if there was none."""
    try:
        return Mode(**recall("modes")[key])
    except (KeyError, TypeError):
        return None


def loading(model: str, *, here: bool) -> str:
    """What a person is told who waits for a model to start: the first time it is measured, too, if it runs `here` at all."""
    if here and not any(key.startswith(f"{_MEASUREMENT} {model} ") for key in recall("modes")):
        return f"loading {model} for the first time here: how it runs fastest is tried out, once ..."
    return f"loading {model} ..."


def remember_mode(key: str, mode: Mode) -> None:
    remember("modes", key, asdict(mode))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
