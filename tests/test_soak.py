"""Runs that are killed at random moments end where an undisturbed run ends. `make soak` does more of it."""

import random
from pathlib import Path

import pytest

from tests.soak import Soak


@pytest.mark.parametrize(("local", "rounds"), [(True, 2), (False, 1)], ids=["local", "ray"])
def test_killed_runs_end_like_undisturbed_ones(tmp_path: Path, local: bool, rounds: int) -> None:
    first = random.randrange(1 << 30)
    print(f"seeds {first} to {first + rounds - 1}")
    soak = Soak(tmp_path, local=local)
    for seed in range(first, first + rounds):
        assert soak.disturbed(seed) >= 1
