"""Which way of reading is held to be the shorter one. That none changes an answer is shown in test_search.py."""

import pytest

from indexer.search.costs import all_are_fewer, hits_are_fewer, looked_at, videos_of


@pytest.mark.parametrize(
    ("allowed", "hits", "strong", "fewer"),
    [
        (1, 5_000_000, 50_000, True),  # one video has at most a few dozen
        (300, 5_000_000, 50_000, True),
        (3_000, 5_000_000, 50_000, False),  # one of 33: 3,300 best hits, not 165,000 of all
        (3_000, 25_000, 400, True),  # of a rare label the best are in no index: all its hits would be sorted
        (3_000, 25_000, 25_000, False),
        (4_000, 25_000, 400, False),  # who knows how many there are: counting ended
    ],
)
def test_all_videos_of_a_folder_are_looked_at_if_that_is_less_than_the_best_hits(
    allowed: int, hits: int, strong: int, fewer: bool
) -> None:
    assert all_are_fewer(50, hits=hits, strong=strong, indexed=100_000, allowed=allowed) is fewer


def test_hits_lead_to_videos_if_more_videos_would_be_asked() -> None:
    rare = looked_at(50, hits=1_000, indexed=100_000, allowed=100_000, near=False)
    assert (rare, hits_are_fewer(1_000, rare)) == (5_000, True)
    assert looked_at(50, hits=1_000, indexed=100_000, allowed=700, near=False) == 700
    common = looked_at(50, hits=5_000_000, indexed=100_000, allowed=100_000, near=True)
    assert (common, hits_are_fewer(5_000_000, common)) == (20, False)


def test_the_first_videos_looked_at_have_a_few_moments_more_than_are_wanted() -> None:
    assert videos_of(50, hits=25_000, indexed=100_000, most=500) == 65
    assert videos_of(50, hits=5_000_000, indexed=100_000, most=500) == 2
    assert videos_of(1, hits=5_000_000, indexed=100_000, most=500) == 1
    assert videos_of(1_000, hits=0, indexed=0, most=500) == 500
