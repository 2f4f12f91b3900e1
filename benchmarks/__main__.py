"""`python -m benchmarks [NAME ... | NAME SIZE]`: run them, print their figures, keep them as JSON in benchmarks/results/.

python -m benchmarks catalog 10_000_000          of another size than it has by itself: catalog_10_000_000.json
"""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.keeping import keep, path_for

BENCHMARKS = (
    "preprocessing",
    "sparse",
    "models",
    "batches",
    "gpu",
    "nvdec",
    "startup",
    "side_by_side",
    "whole_run",
    "driver",
    "slow_model",
    "s3_faults",
    "similar",
    "cells",
    "catalog",
    "listing",
    "s3_listing",
    "upkeep",
    "growth",
)


def main() -> None:
    names = sys.argv[1:] or BENCHMARKS
    sizes = [int(name) for name in names if name[0].isdigit()]
    for name in names[:1] if sizes else names:
        print(f"{name} ...", flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").main(*sizes)
        if figures:  # none from one that needs what this machine lacks
            own_name = "_".join([name, *map("{:_}".format, sizes)])
            keep(own_name, figures, path_for(own_name))
        print(json.dumps(figures, indent=2), flush=True)


main()
