"""`python -m benchmarks [NAME ...]`: run them, print their figures, keep them as JSON in benchmarks/results/."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.keeping import keep

BENCHMARKS = (
    "preprocessing",
    "sparse",
    "models",
    "gpu",
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


def main() -> None:
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"{name} ...", flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").main()
        if figures:  # none from one that needs what this machine lacks
            keep(name, figures)
        print(json.dumps(figures, indent=2), flush=True)


main()
