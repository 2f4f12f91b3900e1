"""How a network runs on a machine, and a memory of it, so that it is measured once and not in every nightly run.

The memory is a small JSON file in the user's cache folder. Losing it costs one measurement; no result depends on it. Importing
this module imports no torch: the driver only passes modes on.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from indexer.infer.models import ModelSpec

if TYPE_CHECKING:
    import torch

Format = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run a network."""

    format: Format
    channels_last: bool
    """Memory layout of the clips and weights: channels_last_3d, or contiguous."""
    batch_clips: int

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.format}, {layout}, batches of {self.batch_clips}"


def machine_key(spec: ModelSpec, precision: str, device: torch.device) -> str:
    """Everything that the measurement depends on."""
    import torch

    geometry = spec.geometry
    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    else:
        chip = f"{_cpu_name()} {torch.backends.cpu.get_cpu_capability()} x{torch.get_num_threads()}"
    size = f"{geometry.frames}x{geometry.crop[0]}x{geometry.crop[1]}"
    return f"{spec.entry.name} {size} {len(spec.labels)} {precision} torch-{torch.__version__} {chip}"


def remembered_mode(key: str) -> Mode | None:
    """The mode of an earlier measurement; None if there was none, or its file is unreadable."""
    try:
        return Mode(**_load()[key])
    except (KeyError, TypeError):
        return None


def remember_mode(key: str, mode: Mode) -> None:
    """Keep a measurement. A folder that cannot be written to is no reason to stop."""
    entries = _load() | {key: asdict(mode)}
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(entries, file, indent=1)
        os.replace(file.name, path)  # noqa: PTH105  two workers may write at once: the last one wins, whole
    except OSError:
        return


def _load() -> dict[str, Any]:
    try:
        entries = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "indexer" / "modes.json"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
