"""What a search finds: which label words mean, whose results stand for a video, and what counts as one moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine

from indexer.catalog.commit import RunRef, claim, commit, mark_gone, start_run
from indexer.catalog.connect import open_catalog, reading
from indexer.records import Failure, IndexedVideo, MediaInfo, Outcome, Part, Recipe, Segment, Video
from indexer.search import Moment, SearchResult, search
from indexer.search.labels import Hit, _beyond, read_hits
from indexer.search.moments import best, merge
from indexer.search.resolve import Resolution, resolve

LABELS = ("archery", "arm wrestling", "petting animal (not cat)", "petting cat", "riding a bike", "surfing water", "yoga")


def recipe(letter: str, segment: float = 10.0) -> Recipe:
    return Recipe(letter * 64, json.dumps({"model": {"name": "r3d_18"}, "sampling": {"segment": segment, "clips": 1}}))


A, B, C = recipe("a"), recipe("b", segment=4.0), recipe("c")

_sequence = iter(range(10**9))


def indexed(name: str, *rows: dict[str, float], segment_ms: int = 10_000, fingerprint: str = "1") -> IndexedVideo:
    """A video with one row of labels and scores for each of its segments."""
    segments = tuple(
        Segment(segment_ms * n, segment_ms * (n + 1), 1, tuple(row), tuple(row.values()), np.zeros(4, np.float16))
        for n, row in enumerate(rows)
    )
    video = Video(f"/archive/{name}", fingerprint, size_bytes=100, modified_at=5.0)
    return IndexedVideo(video, MediaInfo(0, segment_ms * len(rows) / 1000, 320, 240, "h264", 25.0), segments, ())


def store(engine: Engine, used: Recipe, *outcomes: Outcome, labels: Sequence[str] = LABELS) -> RunRef:
    run = start_run(engine, job="archive", recipe=used, labels=labels)
    claim(engine, run, "/archive", [outcome.video for outcome in outcomes])
    part = Part(f"parts/{next(_sequence)}.parquet", 1, 10, "00")
    has_rows = any(isinstance(outcome, IndexedVideo) for outcome in outcomes)
    report = commit(engine, run, part if has_rows else None, outcomes)
    assert report.dropped == ()
    return run


def moments(result: SearchResult) -> list[tuple[str, float, float, float]]:
    """(name, start, end, score)"""
    return [(m.uri.removeprefix("/archive/"), m.start_seconds, m.end_seconds, m.score) for m in result.moments]


def names(engine: Engine, query: str, digest: str | None = A.digest, **settings: object) -> list[str]:
    return sorted({m.uri.removeprefix("/archive/") for m in search(engine, query, digest, **settings).moments})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_catalog(f"sqlite:///{tmp_path}/catalog.db", create=True)
    yield engine
    engine.dispose()


# The answer


def test_the_best_moments_of_a_label(engine: Engine) -> None:
    yoga, both, none = {"yoga": 0.5}, {"yoga": 0.91, "archery": 0.05}, {"archery": 0.9}
    store(engine, A, indexed("b.mp4", yoga, both, none, yoga), indexed("a.mp4", none, none, yoga))
    result = search(engine, "Yoga", A.digest)
    assert result.moments == (
        Moment("/archive/b.mp4", "yoga", 0.0, 40.0, 0.91, pytest.approx(1.91 / 3), 3),
        Moment("/archive/a.mp4", "yoga", 20.0, 30.0, 0.5, 0.5, 1),
    )
    assert result.total == 2
    assert result.as_document() == {
        "query": "Yoga",
        "labels": [{"label": "yoga", "weight": 1.0}],
        "candidates": [],
        "moments": [
            {
                "uri": "/archive/b.mp4",
                "label": "yoga",
                "start_seconds": 0.0,
                "end_seconds": 40.0,
                "score": 0.91,
                "segments": 3,
            },
            {
                "uri": "/archive/a.mp4",
                "label": "yoga",
                "start_seconds": 20.0,
                "end_seconds": 30.0,
                "score": 0.5,
                "segments": 1,
            },
        ],
    }


def test_words_that_are_no_label_find_names_not_moments(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"petting cat": 0.9}))
    assert search(engine, "petting", A.digest).as_document() == {
        "query": "petting",
        "labels": [],
        "candidates": ["petting animal (not cat)", "petting cat"],
        "moments": [],
    }


def test_an_empty_catalog_knows_no_words(engine: Engine) -> None:
    assert search(engine, "yoga", A.digest) == SearchResult("yoga", (), (), (), 0)
    assert search(engine, "yoga", None) == SearchResult("yoga", (), (), (), 0)


def test_a_label_that_was_never_seen(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"petting cat": 0.9}))
    assert search(engine, "archery", A.digest) == SearchResult("archery", (("archery", 1.0),), (), (), 0)


def test_equal_scores_go_by_uri_and_start_and_the_limit_only_cuts(engine: Engine) -> None:
    row, gap = {"yoga": 0.5}, {"archery": 0.5}
    store(engine, A, indexed("b.mp4", row, gap, gap, row), indexed("a.mp4", row), indexed("c.mp4", {"yoga": 0.6}))
    result = search(engine, "yoga", A.digest)
    assert moments(result) == [
        ("c.mp4", 0, 10, 0.6),
        ("a.mp4", 0, 10, 0.5),
        ("b.mp4", 0, 10, 0.5),
        ("b.mp4", 30, 40, 0.5),
    ]
    for limit in (1, 2, 3, 4, 9):
        cut = search(engine, "yoga", A.digest, limit=limit)
        assert cut.moments == result.moments[:limit]
        assert cut.total == 4


@pytest.mark.parametrize(
    ("min_score", "expected"),
    [
        (0.0, [(0, 50, 0.9)]),
        (0.07, [(0, 50, 0.9)]),  # 10000 x 0.07 is 700.0000000000001
        (0.0701, [(0, 10, 0.9), (40, 50, 0.57)]),
        (0.57, [(0, 10, 0.9), (40, 50, 0.57)]),  # and 10000 x 0.57 is 5699.999999999999
        (0.5701, [(0, 10, 0.9)]),
        (0.90001, []),
    ],
)
def test_segments_below_the_score_do_not_count(engine: Engine, min_score: float, expected: list[tuple[float, ...]]) -> None:
    store(engine, A, indexed("a.mp4", *[{"yoga": score} for score in (0.9, 0.06, 0.07, 0.07, 0.57)]))
    assert [row[1:] for row in moments(search(engine, "yoga", A.digest, min_score=min_score))] == expected


# Under


FILES = ["2023/a.mp4", "2023/sub/b.mp4", "2023_old/c.mp4", "20%/d.mp4", "2o23/e.mp4", "\uffff/f.mp4", "\U0001f600/g.mp4"]


@pytest.mark.parametrize(
    ("under", "expected"),
    [
        (None, FILES),
        ("", FILES),
        ("/archive", FILES),
        ("/ARCHIVE", []),
        ("/archive/2023", FILES[:3]),
        ("/archive/2023/", FILES[:2]),
        ("/archive/20%", FILES[3:4]),
        ("/archive/2_23", []),
        ("/archive/\uffff", FILES[5:6]),
        ("/archive/\U0001f600/g.mp4", FILES[6:]),
    ],
)
@pytest.mark.parametrize("common", [False, True])
def test_under_is_how_the_uri_begins(engine: Engine, under: str | None, expected: list[str], common: bool) -> None:
    """Whichever of videos and hits is fewer, and so is read first."""
    rows = [{"yoga": 0.5}] * (20 if common else 1)
    store(engine, A, *[indexed(name, *rows) for name in FILES])
    if not common:
        store(engine, A, *[indexed(f"{name}{n}", {"archery": 0.5}) for name in FILES for n in range(20)])
    assert names(engine, "yoga", under=under) == sorted(expected)
    for moment in search(engine, "yoga", A.digest, under=under).moments:
        assert moment.segments == len(rows)


@given(st.text(min_size=1), st.text(min_size=1))
@example("/a\ud7ff", "/a\ue000")
@example("/a\U0010ffff", "/b")
@example("/a\U0010ffff\U0010ffff", "/a\U0010ffff\U0010ffffx")
def test_the_text_beyond_a_prefix(prefix: str, other: str) -> None:
    prefix, other = f"/{prefix}", f"/{other}"
    beyond = _beyond(prefix)
    for text in (prefix, prefix + other, other):
        assert (prefix <= text < beyond) == text.startswith(prefix)
        assert (prefix.encode(errors="surrogatepass") <= text.encode(errors="surrogatepass")) == (prefix <= text)


# Whose results


def test_old_results_stay_until_the_new_ones_are_there(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"yoga": 0.9}), indexed("b.mp4", {"yoga": 0.8}))
    store(engine, B, indexed("a.mp4", {"yoga": 0.3}, {"archery": 0.2}, segment_ms=4_000))
    expected = [("b.mp4", 0, 10, 0.8), ("a.mp4", 0, 4, 0.3)]
    assert moments(search(engine, "yoga", B.digest)) == expected
    store(engine, B, indexed("b.mp4", {"archery": 0.7}, segment_ms=4_000))
    assert moments(search(engine, "yoga", B.digest)) == expected[1:]
    # The other job goes on seeing its own.
    assert moments(search(engine, "yoga", A.digest)) == [("a.mp4", 0, 10, 0.9), ("b.mp4", 0, 10, 0.8)]


def test_of_several_old_results_the_last_ones_stand(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"yoga": 0.9}), indexed("b.mp4", {"yoga": 0.8}))
    store(engine, B, indexed("a.mp4", {"yoga": 0.1}, segment_ms=4_000))
    store(engine, A, indexed("b.mp4", {"yoga": 0.7}))
    for digest in (C.digest, None):
        assert moments(search(engine, "yoga", digest)) == [("b.mp4", 0, 10, 0.7), ("a.mp4", 0, 4, 0.1)]
    store(engine, A, indexed("a.mp4", {"archery": 0.9}))
    assert moments(search(engine, "yoga", C.digest)) == [("b.mp4", 0, 10, 0.7)]


def test_each_recipe_merges_by_its_own_segments(engine: Engine) -> None:
    rows = [{"yoga": 0.5}, {"archery": 0.5}, {"archery": 0.5}, {"yoga": 0.5}]
    store(engine, B, indexed("a.mp4", *rows, segment_ms=4_000))
    store(engine, C, indexed("b.mp4", *rows))
    assert [m[1:3] for m in moments(search(engine, "yoga", C.digest))] == [(0, 4), (12, 16), (0, 10), (30, 40)]


def test_other_models_may_have_other_labels(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"yoga": 0.9}), indexed("b.mp4", {"yoga": 0.8}))
    store(engine, B, indexed("a.mp4", {"goal": 0.6}, segment_ms=4_000), labels=("goal", "corner kick"))
    assert names(engine, "yoga", B.digest) == ["b.mp4"]  # a.mp4 has results of its own, which know no yoga
    assert names(engine, "goal", B.digest) == ["a.mp4"]
    assert names(engine, "goal", A.digest) == []
    assert search(engine, "corner", A.digest).candidates == ("corner kick",)


def test_failed_changed_and_gone_videos_are_not_found(engine: Engine) -> None:
    run = store(engine, A, *[indexed(f"{name}.mp4", {"yoga": 0.9}) for name in "abcd"])
    store(engine, A, Failure(indexed("a.mp4", fingerprint="2").video, "E_TRUNCATED", "cut off"))
    store(engine, B, indexed("b.mp4", {"archery": 0.9}, fingerprint="2"))  # other bytes: the old results are void
    mark_gone(engine, run, ["/archive/c.mp4"])
    for digest in (A.digest, B.digest):
        assert names(engine, "yoga", digest) == ["d.mp4"]


def test_a_video_at_work_shows_what_it_had(engine: Engine) -> None:
    run = store(engine, A, indexed("a.mp4", {"yoga": 0.9}))
    claim(engine, run, "/archive", [Video("/archive/a.mp4", "2", 100, 6.0)])
    assert names(engine, "yoga") == ["a.mp4"]


def test_the_hits_of_a_video_come_together_by_start(engine: Engine) -> None:
    """Committed in turns, and in an order that is that of neither ids nor names."""
    for n in (3, 1, 2):
        store(engine, A, *[indexed(f"{letter}{n}.mp4", *[{"yoga": 0.5}] * 3) for letter in "ca"])
    with reading(engine) as connection:
        for under in (None, "/archive/"):
            hits = list(read_hits(connection, "yoga", A.digest, min_score=0, under=under))
            assert len(hits) == 18
            assert [hit[1] for hit in hits] == [0, 10_000, 20_000] * 6
            assert len({hit[0] for hit in hits[::3]}) == 6
            assert all(hits[n][0] == hits[n + 1][0] == hits[n + 2][0] for n in range(0, 18, 3))


# Words


@pytest.mark.parametrize(
    ("query", "label"),
    [
        ("yoga", "yoga"),
        ("YOGA", "yoga"),
        ("  Arm \t wrestling\n", "arm wrestling"),
        ("riding_a_bike", "riding a bike"),
        ("petting animal (not cat)", "petting animal (not cat)"),
    ],
)
def test_a_name_is_found_however_it_is_written(query: str, label: str) -> None:
    assert resolve(query, LABELS) == Resolution(query, ((label, 1.0),), ())


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        ("surfing", ("surfing water",)),
        ("archerry", ("archery",)),
        ("arm wresling", ("arm wrestling",)),
        ("ride bike", ("riding a bike",)),
        ("cat", ("petting animal (not cat)", "petting cat")),
        ("xqzzk", ()),
        ("", ()),
        (" ", ()),
    ],
)
def test_other_words_are_never_searched_for(query: str, candidates: tuple[str, ...]) -> None:
    assert resolve(query, LABELS) == Resolution(query, (), candidates)


def test_at_most_five_candidates_always_the_same() -> None:
    numbered = [f"kick {n}" for n in range(9)]
    assert resolve("kick", numbered).candidates == ("kick 0", "kick 1", "kick 2", "kick 3", "kick 4")
    assert resolve("kick", reversed(numbered)) == resolve("kick", numbered)


def test_labels_that_differ_in_case_only() -> None:
    assert resolve("run", ["Run", "run"]).labels == (("run", 1.0),)
    assert resolve("RUN", ["Run", "run"]).labels == (("Run", 1.0), ("run", 1.0))


# Moments


def test_a_gap_of_one_segment_joins_a_longer_one_parts() -> None:
    hits: list[Hit] = [
        ("a", 0, 10_000, 9_100, 10_000),
        ("a", 10_000, 20_000, 8_800, 10_000),
        ("a", 30_000, 40_000, 4_000, 10_000),
        ("a", 50_001, 53_500, 7_500, 10_000),
        ("b", 53_500, 60_000, 10_000, 10_000),
    ]
    assert list(merge(hits, label="yoga")) == [
        Moment("a", "yoga", 0.0, 40.0, 0.91, 0.73, 3),
        Moment("a", "yoga", 50.001, 53.5, 0.75, 0.75, 1),
        Moment("b", "yoga", 53.5, 60.0, 1.0, 1.0, 1),
    ]
    assert list(merge([], label="yoga")) == []


@st.composite
def hit_streams(draw: st.DrawFn) -> list[Hit]:
    hits: list[Hit] = []
    for uri in draw(st.lists(st.sampled_from("abcd"), unique=True)):
        segment_ms = draw(st.integers(1, 20))
        numbers = sorted(draw(st.sets(st.integers(0, 12))))
        for n in numbers:
            length = segment_ms if n != numbers[-1] else draw(st.integers(1, segment_ms))
            hits.append((uri, n * segment_ms, n * segment_ms + length, draw(st.integers(0, 10_000)), segment_ms))
    return hits


@given(hit_streams())
def test_moments_are_apart_and_cover_exactly_the_hits(hits: list[Hit]) -> None:
    found = list(merge(iter(hits), label="yoga"))
    segment_ms = {hit[0]: hit[4] for hit in hits}
    for before, after in pairwise(found):
        gap_ms = round(1000 * (after.start_seconds - before.end_seconds))
        assert before.uri != after.uri or gap_ms > segment_ms[before.uri]
    covered: list[Hit] = []
    for moment in found:
        start, end = round(1000 * moment.start_seconds), round(1000 * moment.end_seconds)
        inside = [hit for hit in hits if hit[0] == moment.uri and start <= hit[1] and hit[2] <= end]
        assert (min(hit[1] for hit in inside), max(hit[2] for hit in inside)) == (start, end)
        assert moment.segments == len(inside)
        assert moment.score == max(hit[3] for hit in inside) / 10_000
        assert moment.mean_score == pytest.approx(sum(hit[3] for hit in inside) / len(inside) / 10_000)
        covered += inside
    assert covered == hits
    again = [
        (m.uri, round(1000 * m.start_seconds), round(1000 * m.end_seconds), round(10_000 * m.score), segment_ms[m.uri])
        for m in found
    ]
    assert [m[:5] for m in merge(again, label="yoga")] == [m[:5] for m in found]


@given(hit_streams(), st.integers(1, 8))
def test_the_best_are_the_first_of_all_in_order(hits: list[Hit], limit: int) -> None:
    found = list(merge(hits, label="yoga"))
    in_order = sorted(found, key=lambda m: (-m.score, m.uri, m.start_seconds))
    assert best(iter(found), limit) == (tuple(in_order[:limit]), len(found))
