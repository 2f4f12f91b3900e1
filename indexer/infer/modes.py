"""Remembers which mode a model runs in on this machine, so that it is measured once and not in every nightly run.

A small JSON file in the user's cache folder. Losing it costs one measurement; it is never needed for a right result.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from indexer.infer.models import ModelSpec
from indexer.infer.precision import Mode

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def machine_key(spec: ModelSpec, precision: str, device: torch.device) -> str:
    """Everything that the measurement depends on."""
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
        entry: Any = _load()[key]
        dtype, channels_last, batch_clips = _DTYPES[entry["dtype"]], entry["channels_last"], int(entry["batch_clips"])
    except (KeyError, TypeError, ValueError):
        return None
    return Mode(dtype, torch.channels_last_3d if channels_last else torch.contiguous_format, batch_clips)


def remember_mode(key: str, mode: Mode) -> None:
    """Keep a measurement. A folder that cannot be written to is no reason to stop."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    entries = _load() | {
        key: {
            "dtype": names[mode.dtype],
            "channels_last": mode.memory_format is torch.channels_last_3d,
            "batch_clips": mode.batch_clips,
        }
    }
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
