"""Figures are kept as JSON, with the machine and the day they were measured on. Needs nothing but Python.

Those of a CPU without AVX-512 have files of their own: models run there in another number format, and other things weigh.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    return {
        "cpu": _of_cpu("model name"),
        "avx512": has_avx512(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def has_avx512() -> bool:
    return "avx512f" in _of_cpu("flags").split()


def path_for(name: str) -> Path:
    """Where the figures of a CPU like this one are."""
    return RESULTS / f"{name}{'' if has_avx512() else '_avx2'}.json"


def keep(name: str, figures: dict[str, object], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    document = {"benchmark": name, "date": time.strftime("%Y-%m-%d"), "machine": machine(), **figures}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _of_cpu(field: str) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
