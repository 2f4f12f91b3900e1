"""The benchmark that goes to machines where nothing else of this is installed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = """
import runpy, sys
sys.modules |= dict.fromkeys(["ray", "av", "decord", "pydantic", "sqlalchemy", "pyarrow"])
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=400)


def test_the_gpu_benchmark_needs_nothing_but_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {
        "models": "r3d_18",
        "batches": "1",
        "formats": "fp32",
        "seconds": "0",
        "device": "cpu",
        "results": str(tmp_path),
    }
    ended = run(*(word for name, value in options.items() for word in (f"--{name}", value)))
    assert (ended.returncode, ended.stderr) == (0, "")
    figures: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    assert figures["device"] == "CPU"
    model = figures["r3d_18"]
    rate = model["clips_per_second"]["fp32"]["1"]
    assert model["best"] == {"format": "fp32", "batch": 1, "tflop_per_second": round(rate * 0.081394, 2)}
    assert model["chosen"]["mode"].endswith(("batches of 4", "batches of 2", "batches of 1"))
    assert model["fed_over_resident"] == pytest.approx(
        model["fed_clips_per_second"] / model["chosen"]["clips_per_second"], abs=0.01
    )


def test_without_a_gpu_the_gpu_benchmark_says_so(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--results", str(tmp_path)],
        env={"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("torch sees no GPU here: nothing is measured")
    assert list(tmp_path.iterdir()) == []
