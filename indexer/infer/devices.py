"""The GPUs that torch sees, and what its CPU is good for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gpus:
    names: tuple[str, ...]
    """With their memory."""
    driver: str | None
    """Its version; None without one."""
    built_for: str | None
    """The CUDA that torch was built for; None for a torch without it."""


def find_gpus() -> Gpus:
    """Imports torch."""
    import torch

    names = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(number)
        names.append(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)")
    return Gpus(tuple(names), _driver(), torch.version.cuda)


def bf16_is_slow() -> bool:
    """Whether linear layers are so slow with bf16 on this CPU that no model is tried with it. Imports torch."""
    import torch

    from indexer.infer.precision import HOPELESS, bf16_slowdown

    return bf16_slowdown(torch.device("cpu"), convolutional=False) > HOPELESS


def _driver() -> str | None:
    try:
        said = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    version = re.search(r"Kernel Module.*?(\d+\.[\d.]+)", said)
    return version[1] if version else "unknown"
