"""What a search finds: whose results stand for a video, what counts as one moment, in which order, out of how many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from indexer.catalog.commit import RunRef, claim, commit, mark_gone, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.errors import QueryError
from indexer.records import Failure, IndexedVideo, MediaInfo, Outcome, Part, Recipe, Segment, Skipped, Video
from indexer.search import Coverage, Moment, SearchResult, costs, find, search
from indexer.search.moments import Hit, merge, near, overlaps
from indexer.search.videos import beyond

LABELS = ("archery", "arm wrestling", "petting animal (not cat)", "petting cat", "riding a bike", "surfing water", "yoga")


def recipe(letter: str, segment: float = 10.0, model: str = "r3d_18") -> Recipe:
    return Recipe(letter * 64, json.dumps({"model": {"name": model}, "sampling": {"segment": segment, "clips": 1}}))


A, B, C = recipe("a"), recipe("b", segment=4.0, model="mvit_v2_s"), recipe("c")

_sequence = iter(range(10**9))


def indexed(
    name: str, *rows: dict[str, float], segment_ms: int = 10_000, fingerprint: str = "1", modified_at: float = 5.0
) -> IndexedVideo:
    """A video with one row of labels and scores for each of its segments."""
    segments = tuple(
        Segment(segment_ms * n, segment_ms * (n + 1), 1, tuple(row), tuple(row.values()), np.zeros(4, np.float16))
        for n, row in enumerate(rows)
    )
    video = Video(f"/archive/{name}", fingerprint, size_bytes=100, modified_at=modified_at)
    return IndexedVideo(video, MediaInfo(0, segment_ms * len(rows) / 1000, 320, 240, "h264", 25.0), segments, ())


def store(engine: Engine, used: Recipe, *outcomes: Outcome, labels: Sequence[str] = LABELS) -> RunRef:
    run = start_run(engine, lease=acquire(engine, f"job {next(_sequence)}"), recipe=used, labels=labels)
    claim(engine, run, "/archive", [outcome.video for outcome in outcomes])
    part = Part(f"parts/{next(_sequence)}.parquet", 1, 10, "00")
    has_rows = any(isinstance(outcome, IndexedVideo) for outcome in outcomes)
    report = commit(engine, run, part if has_rows else None, outcomes)
    assert report.dropped == ()
    return run


def moments(result: SearchResult) -> list[tuple[str, float, float, float]]:
    """(name, start, end, score)"""
    return [(m.uri.removeprefix("/archive/"), m.start_seconds, m.end_seconds, m.score) for m in result.moments]


def names(engine: Engine, query: str, digest: str | None = A.digest, **settings: Any) -> list[str]:
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
        "unknown": None,
        "commonest": [],
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
        "total": 2,
        "total_at_most": 2,
        "coverage": {"videos": 2, "indexed": 2, "failed": 0, "pending": 0, "skipped": 0},
    }
    assert [(v.uri, v.duration_seconds, v.average_fps, v.model) for v in result.videos.values()] == [
        ("/archive/b.mp4", 40.0, 25.0, "r3d_18"),
        ("/archive/a.mp4", 30.0, 25.0, "r3d_18"),
    ]


@pytest.mark.parametrize("query", ["archerry", "label:archerry", "yoga near:5s archerry", "yoga -label:archerry"])
def test_words_that_are_no_label_find_names_not_moments(engine: Engine, query: str) -> None:
    store(engine, A, indexed("a.mp4", {"archery": 0.9, "yoga": 0.5}))
    assert search(engine, query, A.digest).as_document() == {
        "query": query,
        "labels": [],
        "candidates": ["archery"],
        "unknown": "archerry",
        "commonest": [],
        "moments": [],
        "total": 0,
        "total_at_most": 0,
        "coverage": {"videos": 1, "indexed": 1, "failed": 0, "pending": 0, "skipped": 0},
    }


def test_where_no_label_is_near_the_commonest_are_named(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"archery": 0.9, "yoga": 0.5}, {"yoga": 0.5}))
    document = search(engine, "dentist", A.digest).as_document()
    assert (document["unknown"], document["candidates"], document["commonest"]) == ("dentist", [], ["yoga", "archery"])


def test_an_empty_catalog_knows_no_words(engine: Engine) -> None:
    for digest in (A.digest, None):
        assert search(engine, "yoga", digest) == SearchResult("yoga", (), (), "yoga", (), 0, Coverage(0, 0, 0, 0, 0), {})


def test_a_label_that_was_never_seen(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"petting cat": 0.9}))
    result = search(engine, "archery", A.digest)
    assert (result.labels, result.moments, result.total) == ((("archery", 1.0),), (), 0)


def test_general_words_find_every_label_that_they_mean_once(engine: Engine) -> None:
    both = {"petting cat": 0.3, "petting animal (not cat)": 0.8}
    store(engine, A, indexed("a.mp4", both, {"petting cat": 0.9}), indexed("b.mp4", {"yoga": 0.9}))
    result = search(engine, "petting", A.digest)
    assert [label for label, _ in result.labels] == ["petting animal (not cat)", "petting cat"]
    assert result.moments == (Moment("/archive/a.mp4", "petting cat", 0.0, 20.0, 0.9, pytest.approx(0.85), 2),)


def test_equal_scores_go_by_video_and_start_and_the_limit_only_cuts(engine: Engine) -> None:
    row, gap = {"yoga": 0.5}, {"archery": 0.5}
    store(engine, A, indexed("b.mp4", row, gap, gap, row))
    store(engine, A, indexed("a.mp4", row), indexed("c.mp4", {"yoga": 0.6}))
    result = search(engine, "yoga", A.digest)
    assert moments(result) == [
        ("c.mp4", 0, 10, 0.6),
        ("b.mp4", 0, 10, 0.5),
        ("b.mp4", 30, 40, 0.5),
        ("a.mp4", 0, 10, 0.5),
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
    end = beyond(prefix)
    for text in (prefix, prefix + other, other):
        assert (prefix <= text < end) == text.startswith(prefix)
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
    assert search(engine, "label:corner", A.digest).candidates == ("corner kick",)


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


# Queries


@pytest.fixture
def archive(engine: Engine) -> Engine:
    """Segments of 10 s. a: yoga, then archery with a trace of surfing. b: yoga and archery at once. c: only yoga."""
    nothing: dict[str, float] = {}
    store(
        engine,
        A,
        indexed(
            "2019/a.MP4",
            {"yoga": 0.9},
            nothing,
            {"archery": 0.6, "surfing water": 0.05},
            modified_at=stamp("2019-05-31T23:59"),
        ),
        indexed("2020/b.mkv", nothing, {"yoga": 0.7, "archery": 0.8}, nothing, nothing, modified_at=stamp("2019-06-01")),
        indexed("2020/c%.mkv", {"yoga": 0.5}, {"yoga": 0.6}, modified_at=stamp("2020-01-01")),
    )
    return engine


def stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("yoga", [("2019/a.MP4", 0, 10, 0.9), ("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga after:2019-06", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga before:2019-06-01", [("2019/a.MP4", 0, 10, 0.9)]),
        ("yoga after:2019 before:2020-01-01T00:00", [("2019/a.MP4", 0, 10, 0.9), ("2020/b.mkv", 10, 20, 0.7)]),
        ("yoga path:/archive/2020/", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga path:2020/b", [("2020/b.mkv", 10, 20, 0.7)]),
        ("yoga path:*.mp4", [("2019/a.MP4", 0, 10, 0.9)]),
        ("yoga path:/archive/20?0/*.MKV", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga path:/archive/20?0/", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga path:*20/", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga path:c%", [("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga path:/archive/2_20", []),
        ("yoga score:>0.7", [("2019/a.MP4", 0, 10, 0.9)]),
        ("yoga score:70%", [("2019/a.MP4", 0, 10, 0.9), ("2020/b.mkv", 10, 20, 0.7)]),
        ("yoga score:>0.5 score:<=0.7", [("2020/b.mkv", 10, 20, 0.7), ("2020/c%.mkv", 10, 20, 0.6)]),
        ("yoga dur:>10s", [("2020/c%.mkv", 0, 20, 0.6)]),
        ("yoga dur:<=10s", [("2019/a.MP4", 0, 10, 0.9), ("2020/b.mkv", 10, 20, 0.7)]),
        ("yoga near:10s archery", [("2020/b.mkv", 10, 20, 0.7), ("2019/a.MP4", 0, 30, 0.6)]),
        ("yoga near:9999ms archery", [("2020/b.mkv", 10, 20, 0.7)]),
        ("archery near:1m yoga", [("2020/b.mkv", 10, 20, 0.7), ("2019/a.MP4", 0, 30, 0.6)]),
        ("yoga -label:archery", [("2019/a.MP4", 0, 10, 0.9), ("2020/c%.mkv", 0, 20, 0.6)]),
        ("archery -label:yoga", [("2019/a.MP4", 20, 30, 0.6)]),
        ('archery -label:"surfing water"', [("2020/b.mkv", 10, 20, 0.8), ("2019/a.MP4", 20, 30, 0.6)]),  # a trace is not seen
        ("label:archery label:yoga path:b.mkv", [("2020/b.mkv", 10, 20, 0.8)]),
        ("yoga model:r3d_18 path:c%", [("2020/c%.mkv", 0, 20, 0.6)]),
    ],
)
@pytest.mark.parametrize("whole", [30_000, 0])
def test_what_narrows_a_query(
    archive: Engine, query: str, expected: list[tuple[str, float, float, float]], whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However common the labels are held to be."""
    monkeypatch.setattr(find, "WHOLE", whole)
    result = search(archive, query, A.digest)
    assert moments(result) == expected
    assert result.total == len(expected)
    for sort in ("newest", "video"):
        assert sorted(moments(search(archive, query, A.digest, sort=sort))) == sorted(expected)  # type: ignore[arg-type]


def test_two_actions_near_each_other_are_one_moment_of_both(archive: Engine) -> None:
    result = search(archive, "yoga near:10s archery path:a.mp4", A.digest)
    assert result.moments == (Moment("/archive/2019/a.MP4", "yoga + archery", 0.0, 30.0, 0.6, pytest.approx(0.75), 2),)
    assert result.labels == (("yoga", 1.0), ("archery", 1.0))


def test_an_action_is_not_near_itself(archive: Engine) -> None:
    with pytest.raises(QueryError, match="near: both actions mean yoga; ask for two that differ") as caught:
        search(archive, "yoga near:5s label:yoga", A.digest)
    assert caught.value.position == 5


def test_a_query_that_cannot_be_read_is_no_search(archive: Engine) -> None:
    with pytest.raises(QueryError, match=r"score: \"7\" is not a share"):
        search(archive, "yoga score:>7", A.digest)


def test_the_results_of_one_model_only(engine: Engine) -> None:
    store(engine, A, indexed("a.mp4", {"yoga": 0.9}), indexed("b.mp4", {"yoga": 0.8}))
    store(engine, B, indexed("a.mp4", {"yoga": 0.3}, segment_ms=4_000))
    assert moments(search(engine, "yoga model:r3d_18", B.digest)) == [("a.mp4", 0, 10, 0.9), ("b.mp4", 0, 10, 0.8)]
    assert moments(search(engine, "yoga model:mvit_v2_s", A.digest)) == [("a.mp4", 0, 4, 0.3)]
    with pytest.raises(
        QueryError, match="nothing is indexed with 'swin3d_b'; there are results of mvit_v2_s, r3d_18"
    ) as caught:
        search(engine, "yoga model:swin3d_b", A.digest)
    assert caught.value.position == 5


def test_orders(engine: Engine) -> None:
    none: dict[str, float] = {}
    store(engine, A, indexed("b.mp4", {"yoga": 0.5}, none, none, {"yoga": 0.9}, modified_at=10))
    store(engine, A, indexed("a.mp4", {"yoga": 0.7}, modified_at=10), indexed("c.mp4", {"yoga": 0.6}, modified_at=20))
    b, late_b, a, c = ("b.mp4", 0, 10, 0.5), ("b.mp4", 30, 40, 0.9), ("a.mp4", 0, 10, 0.7), ("c.mp4", 0, 10, 0.6)
    assert moments(search(engine, "yoga", A.digest, sort="best")) == [late_b, a, c, b]
    assert moments(search(engine, "yoga", A.digest, sort="newest")) == [c, a, b, late_b]
    assert moments(search(engine, "yoga", A.digest, sort="video")) == [a, b, late_b, c]


def test_a_common_label_is_not_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store(engine, A, *[indexed(f"{n:02}.mp4", {"yoga": n / 100}) for n in range(1, 31)])
    monkeypatch.setattr(find, "WHOLE", 29)
    for sort, first in (("best", "30.mp4"), ("newest", "01.mp4"), ("video", "01.mp4")):
        result = search(engine, "yoga", A.digest, limit=2, sort=sort)  # type: ignore[arg-type]
        assert (len(result.moments), result.moments[0].uri, result.total) == (2, f"/archive/{first}", None)
        assert (result.at_most, result.as_document()["total_at_most"]) == (30, 30)
        assert search(engine, "yoga", A.digest, limit=30, sort=sort).total == 30  # type: ignore[arg-type]
    assert search(engine, "yoga score:>=0.2", A.digest, limit=2).total == 11  # only so many are read: 11 of 30


@pytest.mark.parametrize("sort", ["best", "newest", "video"])
@pytest.mark.parametrize("query", ["label:yoga", "label:yoga near:10s label:archery", "label:yoga path:/archive/"])
def test_a_longer_answer_begins_with_the_shorter_one(engine: Engine, query: str, sort: Any) -> None:
    """Also where more moments than are counted have the same score, in videos that were not claimed by uri."""
    for last_digit in (9, 1, 4, 0):
        names = [f"{n}{last_digit}.mp4" for n in range(100)]
        store(engine, A, *[indexed(name, {"yoga": 1.0, "archery": 1.0}) for name in names])
    longest = search(engine, query, A.digest, sort=sort, limit=1000)
    assert (len(longest.moments), longest.total) == (400, 400)
    for limit in (1, 24, 48, 399):
        assert search(engine, query, A.digest, sort=sort, limit=limit).moments == longest.moments[:limit]


def test_coverage_counts_what_could_be_searched(engine: Engine) -> None:
    a, c, d, e, f = (indexed(f"{letter}.mp4", {"yoga": 0.9}).video for letter in "acdef")
    store(engine, A, indexed("a.mp4", {"yoga": 0.9}), indexed("b.mp4", {"yoga": 0.9}), Failure(c, "E_CORRUPT", "cut"))
    run = store(engine, A, Skipped(d, "no_video"), indexed("e.mp4", {"yoga": 0.9}))
    mark_gone(engine, run, [e.uri])
    claim(engine, run, "/archive", [f])
    assert search(engine, "yoga", A.digest).coverage == Coverage(videos=4, indexed=2, failed=1, pending=1, skipped=1)
    # Another model has begun: its failure takes nothing from what the old one knows.
    store(engine, B, Failure(a, "E_MODEL_NAN", "nan"), indexed("c.mp4", {"yoga": 0.9}, segment_ms=4_000))
    assert search(engine, "yoga", B.digest).coverage == Coverage(videos=4, indexed=3, failed=0, pending=1, skipped=1)
    assert search(engine, "yoga model:mvit_v2_s", B.digest).coverage == Coverage(5, 1, 1, 3, 0)


@st.composite
def archives(draw: st.DrawFn) -> list[IndexedVideo]:
    scores = st.sampled_from([0.1, 0.2, 0.5, 0.5001, 0.9])
    rows = st.lists(st.dictionaries(st.sampled_from(["yoga", "archery", "petting cat"]), scores), min_size=1, max_size=6)
    return [
        indexed(f"{letter}.mp4", *draw(rows), modified_at=draw(st.sampled_from([1.0, 2.0])))
        for letter in draw(st.permutations("abcdef"))
    ]


@given(
    archives(),
    st.sampled_from(
        [
            "label:yoga",
            "label:yoga path:a.mp4",
            "label:yoga label:archery",
            "label:yoga label:archery path:/archive/",
            "label:yoga near:10s label:archery",
            'label:yoga -label:"petting cat"',
        ]
    ),
    st.sampled_from(["best", "newest", "video"]),
    st.integers(1, 5),
    st.sampled_from([0, 1, 2, 4, 8, 40]),
    st.sampled_from([0, 1_000_000]),
    st.sampled_from([0, 1, 2]),
)
@settings(max_examples=100)
def test_the_way_of_reading_changes_no_answer(
    videos: list[IndexedVideo], query: str, sort: Any, limit: int, whole: int, hit_cost: int, patience: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        engine = open_catalog(f"sqlite:///{folder}/catalog.db", create=True)
        store(engine, A, *videos)
        everything = search(engine, query, A.digest, sort=sort, limit=1000)
        patch.setattr(find, "WHOLE", whole)
        patch.setattr(costs, "HIT_COST", hit_cost)
        if patience < 2:  # few videos are many, and looking through the best hits begins with few
            patch.setattr(find, "VIDEOS_AT_ONCE", 1)
            patch.setattr(costs, "MOST_VIDEOS", 1)
            patch.setattr(find, "_HITS_IF_FILTERED", 1)
        if patience < 1:  # a few of them are enough to give up
            patch.setattr(find, "MOST_HITS", 1)
            patch.setattr(find, "_GIVE_UP", 0)
        result = search(engine, query, A.digest, sort=sort, limit=limit)
        engine.dispose()
    assert result.moments == everything.moments[:limit]
    assert result.total in (None, everything.total)
    assert everything.total is not None
    assert result.total is not None or len(result.moments) <= everything.total <= (result.at_most or 0)


# Moments


def hit(start_ms: int, end_ms: int, score: int, label: str = "yoga") -> Hit:
    return Hit(start_ms, end_ms, score, label)


def test_a_gap_of_one_segment_joins_a_longer_one_parts() -> None:
    hits = [
        hit(0, 10_000, 9_100),
        hit(10_000, 20_000, 8_800),
        hit(30_000, 40_000, 4_000),
        hit(50_001, 53_500, 7_500),
    ]
    assert list(merge("a", hits, segment_ms=10_000)) == [
        Moment("a", "yoga", 0.0, 40.0, 0.91, 0.73, 3),
        Moment("a", "yoga", 50.001, 53.5, 0.75, 0.75, 1),
    ]
    assert list(merge("a", [], segment_ms=10_000)) == []


@st.composite
def hit_streams(draw: st.DrawFn, labels: tuple[str, ...] = ("yoga",)) -> tuple[list[Hit], int]:
    segment_ms = draw(st.integers(1, 20))
    numbers = sorted(draw(st.sets(st.integers(0, 12))))
    hits = []
    for n in numbers:
        length = segment_ms if n != numbers[-1] else draw(st.integers(1, segment_ms))
        for label in sorted(draw(st.sets(st.sampled_from(labels), min_size=1))):
            hits.append(hit(n * segment_ms, n * segment_ms + length, draw(st.integers(0, 10_000)), label))
    return sorted(hits), segment_ms


@given(hit_streams(("yoga", "archery")))
def test_moments_are_apart_and_cover_exactly_the_hits(stream: tuple[list[Hit], int]) -> None:
    hits, segment_ms = stream
    found = list(merge("a", hits, segment_ms=segment_ms))
    for before, after in pairwise(found):
        assert round(1000 * (after.start_seconds - before.end_seconds)) > segment_ms
    covered: list[Hit] = []
    for moment in found:
        start, end = round(1000 * moment.start_seconds), round(1000 * moment.end_seconds)
        inside = [one for one in hits if start <= one.start_ms and one.end_ms <= end]
        assert (min(one.start_ms for one in inside), max(one.end_ms for one in inside)) == (start, end)
        of_segment = {n: max(one.score for one in inside if one.start_ms == n) for n in {one.start_ms for one in inside}}
        assert moment.segments == len(of_segment)
        assert moment.score == max(of_segment.values()) / 10_000
        assert moment.mean_score == pytest.approx(sum(of_segment.values()) / len(of_segment) / 10_000)
        assert moment.label in {one.label for one in inside if one.score == max(of_segment.values())}
        covered += inside
    assert covered == hits


def moment(start: float, end: float, score: float = 0.5, label: str = "yoga") -> Moment:
    return Moment("a", label, start, end, score, score, 1)


def test_near_moments_are_joined_once() -> None:
    first = [moment(0, 10, 0.9), moment(40, 50, 0.8), moment(100, 110, 0.7)]
    second = [moment(12, 20, 0.6, "archery"), moment(53, 60, 0.95, "archery"), moment(53.5, 54, 0.1, "archery")]
    assert list(near(first, second[:2], milliseconds=3_000)) == [
        Moment("a", "yoga + archery", 0, 20, 0.6, 0.75, 2),
        Moment("a", "yoga + archery", 40, 60, 0.8, pytest.approx(0.875), 2),
    ]
    assert list(near(first, second[:2], milliseconds=1_999)) == []
    # What is near two is one moment with both.
    assert list(near(first, second[:1], milliseconds=20_000)) == [
        Moment("a", "yoga + archery", 0, 50, 0.6, pytest.approx((0.9 + 0.8 + 0.6) / 3), 3)
    ]
    assert list(near([], second, milliseconds=1)) == list(near(first, [], milliseconds=1)) == []


@given(hit_streams(), hit_streams(), st.integers(0, 30))
def test_near_moments_by_definition(one: tuple[list[Hit], int], other: tuple[list[Hit], int], milliseconds: int) -> None:
    first, second = list(merge("a", one[0], segment_ms=one[1])), list(merge("a", other[0], segment_ms=other[1]))

    def close(a: Moment, b: Moment) -> bool:
        return round(1000 * max(a.start_seconds - b.end_seconds, b.start_seconds - a.end_seconds)) <= milliseconds

    joined = list(near(first, second, milliseconds=milliseconds))
    for before, after in pairwise(joined):
        assert before.end_seconds <= after.start_seconds
    for a in first:
        inside = any(m.start_seconds <= a.start_seconds and a.end_seconds <= m.end_seconds for m in joined)
        assert inside or not any(close(a, b) for b in second)
    for m in joined:
        parts = [
            [x for x in side if m.start_seconds <= x.start_seconds and x.end_seconds <= m.end_seconds]
            for side in (first, second)
        ]
        assert any(close(a, b) for a in parts[0] for b in parts[1])
        assert m.score <= max(x.score for x in parts[0])
        assert m.score <= max(x.score for x in parts[1])


def test_to_touch_is_not_to_overlap() -> None:
    assert not overlaps(moment(10, 20), [moment(0, 10), moment(20, 30)])
    assert overlaps(moment(10, 20), [moment(19.999, 30)])
    assert overlaps(moment(10, 20), [moment(0, 100)])
