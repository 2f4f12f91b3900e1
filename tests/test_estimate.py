"""What a plan says a run will take, from runs before it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.estimate import extrapolate

GROWTH = json.loads((Path(__file__).parents[1] / "benchmarks/results/growth.json").read_text())
VIDEOS = (1, 10, 100)


def recorded(decoders: int) -> list[tuple[float, float]]:
    """Video seconds and wall seconds of runs that `python -m benchmarks growth` timed."""
    hours = [count * GROWTH["video_seconds"] / 3600 for count in VIDEOS]
    paces = [GROWTH["seconds_per_hour_of_video"][f"{count} videos, {decoders} decoders"]["wall"] for count in VIDEOS]
    return [(3600 * some, some * pace) for some, pace in zip(hours, paces, strict=True)]


@pytest.mark.parametrize("decoders", [1, 2])
@pytest.mark.parametrize("left_out", range(3))
def test_a_run_takes_what_runs_of_other_lengths_say(decoders: int, left_out: int) -> None:
    others = recorded(decoders)
    video_seconds, wall_seconds = others.pop(left_out)
    assert extrapolate(others, video_seconds) == pytest.approx(wall_seconds, rel=0.25)


def test_one_run_gives_its_pace() -> None:
    assert extrapolate([(3600.0, 600.0)], 7200.0) == pytest.approx(1200.0)
    assert extrapolate([(3600.0, 600.0), (3000.0, 600.0), (3200.0, 640.0)], 6400.0) == pytest.approx(1280.0)


def test_a_long_run_that_was_quicker_than_a_short_one_makes_no_nonsense() -> None:
    assert extrapolate([(100.0, 500.0), (1000.0, 400.0)], 10.0) == pytest.approx(27.0)  # the median pace


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=20), st.floats(0, 1e7))
def test_no_history_makes_a_run_end_before_it_began(past: list[tuple[float, float]], video_seconds: float) -> None:
    assert extrapolate(past, video_seconds) >= 0
