"""`python -m benchmarks [NAME ...]`: run them, print their figures, keep them as JSON in benchmarks/results/."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "preprocessing",
    "sparse",
    "models",
    "side_by_side",
    "whole_run",
    "driver",
    "s3_faults",
    "similar",
    "cells",
    "catalog",
    "listing",
    "upkeep",
    "growth",
)
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


def main() -> None:
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"{name} ...", flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").main()
        document = {"benchmark": name, "date": time.strftime("%Y-%m-%d"), "machine": machine(), **figures}
        (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(json.dumps(figures, indent=2), flush=True)


main()
