"""How the work of a run is cut into tasks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from indexer.plan.units import plan_units
from indexer.records import Unit, Video

MB = 1_000_000


def videos(*sizes: int) -> list[Video]:
    return [Video(f"/a/{number}", "1", size, 0.0) for number, size in enumerate(sizes)]


def sizes(units: list[Unit]) -> list[list[int]]:
    return [[video.size_bytes for video in unit.videos] for unit in units]


def test_large_videos_alone_and_first_small_ones_together() -> None:
    work = videos(*[1 * MB] * 40, 900 * MB, *[10 * MB] * 7, 33 * MB, *[0] * 3)
    assert sizes(plan_units(work, workers=1)) == [
        [900 * MB],
        [33 * MB],
        [10 * MB] * 3,
        [10 * MB] * 3,
        [10 * MB, *[1 * MB] * 12],
        [1 * MB] * 13,
        [1 * MB] * 13,
        [1 * MB] * 2 + [0] * 3,
    ]


def test_no_worker_is_idle_for_the_sake_of_bundles() -> None:
    assert sizes(plan_units(videos(*[MB] * 100), workers=1)) == [[MB] * 25] * 4
    assert sizes(plan_units(videos(*[MB] * 100), workers=8)) == [[MB] * 3] * 33 + [[MB]]
    assert sizes(plan_units(videos(*[MB] * 63), workers=8)) == [[MB]] * 63
    assert sizes(plan_units(videos(3, 2, 1), workers=100)) == [[3], [2], [1]]


def test_nothing_to_do() -> None:
    assert plan_units([], workers=4) == []


@given(
    st.lists(st.integers(0, 40 * MB), max_size=200),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 60 * MB),
    st.randoms(use_true_random=False),
)
def test_every_video_in_exactly_one_unit(
    numbers: list[int], workers: int, most_videos: int, most_bytes: int, dice: random.Random
) -> None:
    work = videos(*numbers)
    units = plan_units(work, workers=workers, most_videos=most_videos, most_bytes=most_bytes)
    planned = [video for unit in units for video in unit.videos]
    assert sorted(planned, key=lambda video: int(video.uri[3:])) == work
    assert [video.size_bytes for video in planned] == sorted(numbers, reverse=True)
    assert len(units) >= min(len(work), 4 * workers)
    for unit in units:
        assert 1 <= len(unit.videos) <= most_videos
        assert len(unit.videos) == 1 or sum(video.size_bytes for video in unit.videos) <= most_bytes
    dice.shuffle(work)
    assert plan_units(work, workers=workers, most_videos=most_videos, most_bytes=most_bytes) == units
