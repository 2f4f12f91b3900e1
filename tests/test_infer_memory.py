"""What a network needs of a machine's memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from indexer.config import Model, Sampling
from indexer.infer.models import model_spec
from indexer.infer.precision import cpu_batch_clips

MEGABYTES = 48
FAULTS_OF_NEW_MEMORY = MEGABYTES * 256 // 2
"""At least: half of its pages, of 4 KiB each."""

PROGRAM = f"""
import os, resource
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
from indexer.config import Model, Sampling
from indexer.infer.classifier import Classifier
from indexer.infer.models import model_spec
from indexer.infer.modes import Mode
from indexer.infer.network import build_network
from indexer.infer.weights import Weights

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros({MEGABYTES} << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

counted = [faults(), faults()]
random = Weights(None, "random-0")
spec = model_spec(Model(name="r3d_18", weights="random"), Sampling(), None)
Classifier(spec, build_network(spec, random), random, precision="fp32", mode=Mode("fp32", False, False, 1))
settling = [faults() for _ in range(40)]  # what is small breaks some of the large blocks first
print(*counted, settling[-1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library gives memory back as it likes")
def test_what_a_network_has_given_back_is_there_for_its_next_batch() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, again, kept = map(int, done.stdout.split())
    assert first > FAULTS_OF_NEW_MEMORY
    assert again > FAULTS_OF_NEW_MEMORY  # as it was given back
    assert kept < 100


@pytest.mark.parametrize(("model", "clips"), [("r3d_18", 4), ("mvit_v2_s", 4), ("swin3d_t", 2), ("s3d", 1)])
def test_a_cpu_takes_fewer_clips_at_once_of_the_large_ones(model: str, clips: int) -> None:
    geometry = model_spec(Model(name=model, weights="random"), Sampling(), None).geometry
    assert cpu_batch_clips((geometry.frames, *geometry.crop, 3)) == clips
