"""Runs that are killed at random moments end where an undisturbed run ends. `make soak` does more of it."""

import random
from pathlib import Path

import pytest

from tests.soak import Soak


@pytest.mark.parametrize("local", [True, False], ids=["local", "ray"])
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path, local: bool) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    assert Soak(tmp_path, local=local).disturbed(seed) >= 1
