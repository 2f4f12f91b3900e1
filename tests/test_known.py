"""What the catalog says of the videos that a listing names, and of those that it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from indexer.catalog import known as known_module
from indexer.catalog.commit import adopt, claim, mark_gone
from indexer.catalog.known import KnownVideos
from indexer.records import Failure, KnownVideo, Skipped
from tests.catalogs import failed, index, indexed, start, video

A, B = "aa" * 32, "bb" * 32


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "_URIS_AT_ONCE", 2)
    monkeypatch.setattr(known_module, "_IDS_AT_ONCE", 2)


def looked_up(known: KnownVideos, *names: str) -> list[KnownVideo | None]:
    return [before for _, before in known.beside(video(name) for name in names)]


def states(known: KnownVideos, names: Sequence[str]) -> list[str | None]:
    return [before and before.state for before in looked_up(known, *names)]


def test_the_state_is_that_under_the_recipe(engine: Engine) -> None:
    index(
        engine, indexed("a", "1", ("yoga", 0.5)), failed("b"), Skipped(video("c"), "no_video"), Skipped(video("d"), "too_new")
    )
    claim(engine, start(engine), "/archive", [video("a", "2"), video("new")])
    index(engine, failed("gone"))
    mark_gone(engine, start(engine), ["/archive/gone"])
    assert looked_up(KnownVideos(engine, "/archive", A), "new", "never", "gone", "d", "c", "b", "a") == [
        KnownVideo("/archive/new", "pending", "1"),
        None,
        None,
        KnownVideo("/archive/d", "pending", "1"),  # old enough next time, with the same bytes
        KnownVideo("/archive/c", "skipped", "1"),
        KnownVideo("/archive/b", "failed", "1"),
        KnownVideo("/archive/a", "pending", "2"),
    ]
    for digest in (B, "never used"):
        assert states(KnownVideos(engine, "/archive", digest), "abcd") == ["pending"] * 4


@pytest.mark.parametrize("code", ["E_SOURCE", "E_SCRATCH", "E_CHANGED"])
def test_what_a_storage_was_to_blame_for_is_tried_by_three_runs(engine: Engine, code: str) -> None:
    def retried(name: str) -> bool:
        [before] = looked_up(KnownVideos(engine, "/archive", A), name)
        assert before is not None
        assert before.state == "failed"
        return before.retry

    tries = []
    for _ in range(3):
        index(engine, Failure(video("a"), code, "no answer"), failed("b"))
        tries.append((retried("a"), retried("b")))
    assert tries == [(True, False), (True, False), (False, False)]
    index(engine, Failure(video("a", "2"), code, "no answer"))  # other bytes
    assert retried("a")


def test_whatever_is_listed_stands_beside_what_is_known_of_it(engine: Engine) -> None:
    index(engine, failed("a"))
    listed = [Skipped(video("x"), "symlink"), Failure(video("a"), "E_ACCESS", "denied"), video("a")]
    before = KnownVideo("/archive/a", "failed", "1")
    pairs = KnownVideos(engine, "/archive", A).beside(iter(listed))
    assert list(pairs) == [(listed[0], None), (listed[1], before), (listed[2], before)]


def test_what_another_source_indexed_need_not_be_done_again(engine: Engine) -> None:
    index(engine, indexed("2024/a", "1", ("yoga", 0.5)), failed("2024/b"), source="/archive/2024")
    known = KnownVideos(engine, "/archive", A)
    assert known.count == 0
    assert looked_up(known, "2024/a", "2024/b") == [KnownVideo("/archive/2024/a", "indexed", "1", own=False), None]
    adopt(engine, start(engine), "/archive", ["/archive/2024/a"])
    known = KnownVideos(engine, "/archive", A)
    assert known.count == 1
    assert looked_up(known, "2024/a") == [KnownVideo("/archive/2024/a", "indexed", "1")]


def test_what_is_not_listed_is_missing_from_its_own_source(engine: Engine) -> None:
    index(engine, *(failed(name) for name in "abcde"))
    index(engine, failed("x"), source="/other")
    mark_gone(engine, start(engine), ["/archive/e"])
    known = KnownVideos(engine, "/archive", A)
    assert known.count == 4
    assert sorted(known.missing()) == ["/archive/a", "/archive/b", "/archive/c", "/archive/d"]
    looked_up(known, "c", "new")
    assert sorted(known.missing()) == ["/archive/a", "/archive/b", "/archive/d"]
    looked_up(known, "d", "b", "a")
    assert list(known.missing()) == []
    assert (known.count, list(KnownVideos(engine, "/nothing", A).missing())) == (4, [])


def test_what_another_run_finds_meanwhile_is_not_missing(engine: Engine) -> None:
    index(engine, failed("a"), failed("gone"))
    mark_gone(engine, start(engine), ["/archive/gone"])
    known = KnownVideos(engine, "/archive", A)
    claim(engine, start(engine), "/archive", [video("gone"), video("new")])
    assert list(known.missing()) == ["/archive/a"]
    assert states(known, ["new", "a"]) == ["pending", "failed"]
    assert list(known.missing()) == []


def test_what_another_run_declares_gone_meanwhile_is_new_where_it_is_listed(engine: Engine) -> None:
    index(engine, failed("a"), failed("b"))
    known = KnownVideos(engine, "/archive", A)
    mark_gone(engine, start(engine), ["/archive/a", "/archive/b"])
    assert looked_up(known, "a") == [None]
    assert list(known.missing()) == ["/archive/b"]
