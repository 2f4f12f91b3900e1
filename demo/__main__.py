"""`make demo`: make a small archive and a model that knows its actions, index it, search it twice. Offline."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from demo.archive import make_archive
from demo.checkpoint import fit_checkpoint

ROOT = Path("demo-archive")
JOB = "jobs/demo.yaml"


def indexer(*words: str) -> None:
    """Run the program as a user would, and stop here if it fails."""
    print(f"\n$ indexer {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "indexer", *words], check=True)


def main() -> None:
    began = time.monotonic()
    print(f"making six videos of synthetic actions in {ROOT / 'videos'} ...", flush=True)
    timelines = make_archive(ROOT / "videos")
    print(f"fitting a model to these actions, on clips that are in none of the videos, in {ROOT / 'model'} ...", flush=True)
    fit_checkpoint(ROOT / "model")

    indexer("plan", JOB)
    indexer("run", JOB)
    for action in ("wheel spinning", "snow falling"):
        indexer("search", action, "--job", JOB, "--limit", "5")
        print("where it really is:")
        for name, blocks in sorted(timelines.items()):
            shown = [f"{block.start_seconds}-{block.end_seconds} s" for block in blocks if block.action == action]
            print(f"  {name}: {', '.join(shown) or 'nowhere'}")
    print(f"\n{time.monotonic() - began:.0f} s in all. Now try: .venv/bin/indexer search bouncing --job {JOB}")


if __name__ == "__main__":
    main()
