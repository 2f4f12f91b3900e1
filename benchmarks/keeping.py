"""Figures are kept as JSON, with the machine and the day they were measured on. Needs nothing but Python."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


def keep(name: str, figures: dict[str, object], folder: Path = RESULTS) -> None:
    folder.mkdir(exist_ok=True)
    document = {"benchmark": name, "date": time.strftime("%Y-%m-%d"), "machine": machine(), **figures}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
