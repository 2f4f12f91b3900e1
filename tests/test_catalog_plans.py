"""No question of a search and no change by a run reads a large table as a whole: rows are found by an index.

Databases say so themselves when they are asked to explain a statement. Statements are those that are really sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event

from indexer.catalog.commit import RunRef, claim, commit, mark_gone, start_run
from indexer.catalog.connect import reading
from indexer.catalog.known import KnownVideos
from indexer.catalog.lease import acquire
from indexer.catalog.lookup import failures
from indexer.records import Failure, IndexedVideo, MediaInfo, Recipe, Segment, Video
from indexer.search import costs, find, search
from indexer.search.label_counts import label_counts
from indexer.search.recipes import searched_recipes
from tests.catalogs import a_part

LABELS = tuple(f"action {number}" for number in range(50))
RECIPE = Recipe("ab" * 32, '{"model": {"name": "r3d_18"}, "sampling": {"segment": 10.0}}')
VIDEOS, SEGMENTS = 1500, 8


def tape(number: int, fingerprint: str = "1") -> IndexedVideo:
    """The first label is in all of its segments, each other one in few."""
    nothing = np.zeros(1, np.float16)
    segments = tuple(
        Segment(10_000 * n, 10_000 * n + 10_000, 1, (LABELS[0], LABELS[1 + number * n % 49]), (0.9, 0.4), nothing)
        for n in range(SEGMENTS)
    )
    uri = f"/srv/{number % 10}/tape {number:04}.mp4"
    video = Video(uri, fingerprint, 1000, modified_at=float(number * 7919 % VIDEOS))
    return IndexedVideo(video, MediaInfo(0, 10.0 * SEGMENTS, 320, 240, "h264", 25.0), segments, ())


@pytest.fixture
def run(engine: Engine) -> RunRef:
    """Has brought in so much that a planner thinks twice."""
    run = start_run(engine, lease=acquire(engine, "archive"), recipe=RECIPE, labels=LABELS)
    tapes = [tape(number) for number in range(VIDEOS)]
    claim(engine, run, "/srv", [one.video for one in tapes])
    commit(engine, run, a_part(tapes), tapes)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return run


def sent(engine: Engine, call: Callable[[], object]) -> dict[str, Any]:
    """The statements that `call` sends -> values for each."""
    asked: dict[str, Any] = {}

    def hear(*args: Any) -> None:
        asked[args[2]] = args[3][0] if args[5] else args[3]  # args[5]: the same for many values, of which one is enough

    event.listen(engine, "before_cursor_execute", hear)
    call()
    event.remove(engine, "before_cursor_execute", hear)
    return asked


def ways(
    engine: Engine,
    call: Callable[[], object],
    *,
    tables: Sequence[str] = ("hit", "result", "video"),
    by_size: bool = False,
) -> set[str]:
    """The ways to rows of `tables` in all that `call` asks: the columns of an index by which they are found.

    Small tables stand for large ones; `by_size`, they are what they are, and PostgreSQL may read them whole.
    """
    found: set[str] = set()
    asked = sent(engine, call)
    with engine.connect() as connection:
        for statement, values in asked.items():
            if re.match(r"SELECT (?!set_config)|DELETE|UPDATE", statement):
                found |= set(_ways(connection, statement, values, by_size=by_size))
    return {way for way in found if way.split()[0] in tables}


def _ways(connection: Connection, statement: str, values: Any, *, by_size: bool) -> Iterator[str]:
    cursor = connection.connection.cursor()  # the driver's own, which expects rows of an explained UPDATE
    if connection.dialect.name == "sqlite":
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        yield from _of_sqlite([row[-1] for row in cursor.fetchall()])
    else:
        cursor.execute("SELECT indexname, tablename FROM pg_indexes WHERE schemaname = current_schema()")
        tables = dict(cursor.fetchall())
        cursor.execute(f"SET enable_seqscan = {'on' if by_size else 'off'}")
        cursor.execute(f"EXPLAIN {statement}", values)
        yield from _of_postgresql([row[0] for row in cursor.fetchall()], tables)
    cursor.close()


def _of_sqlite(plan: Sequence[str]) -> Iterator[str]:
    for line in plan:
        if words := re.match(r"(SEARCH|SCAN) (\w+)(?:.* INDEX (\w+))?", line):
            columns = [column.replace("rowid", "id") for column in re.findall(r"(\w+)[=<>]", line)]
            table = {"a": "hit", "b": "hit"}.get(words[2], words[2])  # as searches call them
            yield _way(table, (words[3] or "").replace("sqlite_autoindex_video_1", "uq_video_uri"), columns)


def _of_postgresql(plan: Sequence[str], tables: dict[str, str]) -> Iterator[str]:
    for line, following in pairwise([*plan, ""]):
        if words := re.search(r"(?:Index(?: Only)? Scan(?: Backward)? using|Bitmap Index Scan on) (\w+)", line):
            columns = re.findall(r"\((\w+) [=<>]", following) if "Index Cond" in following else []
            yield _way(tables[words[1]], words[1], columns)
        elif words := re.search(r"Seq Scan on (\w+)", line):
            yield _way(words[1], "", [])


def _way(table: str, index: str, columns: Sequence[str]) -> str:
    if columns and index != "ix_hit_strong":  # whose order is what it is for
        return f"{table} by {', '.join(dict.fromkeys(columns))}"
    return f"{table} along {index}" if index else f"{table} as a whole"


STRONG_HITS = "hit along ix_hit_strong"
IN_ANY_SEARCH = {"hit by recipe_id, label_id, video_id", "result by recipe_id", "result by video_id, recipe_id", "video by id"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # search leaves cursors half read
def test_searches_find_their_rows_by_indexes(engine: Engine, run: RunRef, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = "video along ix_video_modified_at"

    def of(query: str, **options: Any) -> set[str]:
        engine.dispose()  # a connection that is new has not counted yet how much is indexed
        return ways(engine, lambda: search(engine, query, RECIPE.digest, limit=5, **options))

    common, rare = 'label:"action 0"', 'label:"action 7" near:10s label:"action 0" -label:"action 3"'
    assert of(rare) == IN_ANY_SEARCH | {"hit by recipe_id, label_id", counting}
    assert of(common, under="/srv/7/") == IN_ANY_SEARCH | {"video by uri", STRONG_HITS, counting}
    assert of(common, under="/srv/7/tape 0007") == IN_ANY_SEARCH | {"video by uri", counting}  # all of one are few
    monkeypatch.setattr(find, "WHOLE", 100)  # then many hits are too many to be read at once
    assert of(common, sort="newest") == IN_ANY_SEARCH | {"video along ix_video_modified_at"}
    assert of(common, sort="video") == IN_ANY_SEARCH | {"video along uq_video_uri", counting}
    with monkeypatch.context() as patch:  # as if going through the newest videos took longer than asking which have the label
        patch.setattr(costs, "HIT_COST", 0)
        for sort in ("newest", "video"):
            assert of('label:"action 7"', sort=sort) == IN_ANY_SEARCH | {"hit by recipe_id, label_id", counting}
    assert of(common) == IN_ANY_SEARCH | {STRONG_HITS, counting}
    assert of(common, min_score=0.5) == IN_ANY_SEARCH | {STRONG_HITS, counting}
    assert of('label:"action 1" label:"action 2"') == IN_ANY_SEARCH | {"hit by recipe_id, label_id", counting}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_videos_of_a_folder_are_in_order_before_one_is_asked_for_hits(
    engine: Engine, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "WHOLE", 100)
    asked = sent(engine, lambda: search(engine, 'label:"action 0"', RECIPE.digest, limit=5, under="/srv/7/", sort="newest"))
    ((statement, values),) = ((one, values) for one, values in asked.items() if "ORDER BY" in one and "FROM hit" in one)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"{'EXPLAIN QUERY PLAN' if connection.dialect.name == 'sqlite' else 'EXPLAIN'} {statement}", values)
        plan = [row[-1] for row in cursor.fetchall()]
        cursor.close()
    if connection.dialect.name == "sqlite":  # what comes first is done first
        assert [line for line in plan if "ORDER BY" in line or "SUBQUERY" in line] == [
            "USE TEMP B-TREE FOR ORDER BY", "CORRELATED SCALAR SUBQUERY 2"
        ]  # fmt: skip
    else:  # what stands deeper
        asks, sorts = (next(n for n, line in enumerate(plan) if word in line) for word in ("Filter: ((SubPlan", "Sort  ("))
        assert asks < sorts


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_videos_of_a_few_hits_are_looked_up_though_nothing_forbids_to_read_them_all(
    engine: Engine, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "WHOLE", 100)
    monkeypatch.setattr(costs, "HIT_COST", 0)
    asked = sent(engine, lambda: search(engine, 'label:"action 7"', RECIPE.digest, limit=5, sort="newest"))
    ((statement, values),) = ((one, values) for one, values in asked.items() if "SELECT DISTINCT video_id" in one)
    with engine.connect() as connection:
        ways = set(_ways(connection, statement, values, by_size=True))
    assert ways - {"named as a whole"} == {"hit by recipe_id, label_id", "video by id"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_hits_are_found_by_indexes_though_nothing_forbids_to_read_them_all(engine: Engine, run: RunRef) -> None:
    def of(query: str, **options: Any) -> set[str]:
        asked = partial(search, engine, query, RECIPE.digest, limit=5, **options)
        return ways(engine, asked, tables=["hit"], by_size=True)

    key, labels = "hit by recipe_id, label_id, video_id", "hit by recipe_id, label_id"
    assert of('label:"action 7" near:10s label:"action 0" -label:"action 3"') == {key, labels}
    assert of('label:"action 0"', under="/srv/7/") == {key, STRONG_HITS}
    assert of('label:"action 0"', under="/srv/7/tape 0007") == {key}
    assert of('label:"action 0"', sort="newest") == {key}
    assert of('label:"action 0"') == {key, STRONG_HITS}
    assert of('label:"action 0"', min_score=0.5) == {key, STRONG_HITS}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_counts_of_labels_are_found_by_their_key(engine: Engine, run: RunRef) -> None:
    asked = partial(search, engine, 'label:"action 0"', RECIPE.digest, limit=5)
    assert ways(engine, asked, tables=["label_stat"]) == {"label_stat by recipe_id, label_id, bucket"}

    def counts() -> object:
        with reading(engine) as connection:
            return label_counts(connection, searched_recipes(connection, RECIPE.digest, None))

    assert ways(engine, counts, tables=["label_stat"]) == {"label_stat by recipe_id"}


def test_a_run_finds_its_rows_by_indexes(engine: Engine, run: RunRef) -> None:
    again = [tape(number, "2") for number in range(20)]
    assert ways(engine, lambda: claim(engine, run, "/srv", [one.video for one in again])) == set()
    locking = {"video by uri", "result by video_id"}
    changing = {"hit by recipe_id, label_id, video_id", "result by video_id, recipe_id", "result by part_id", "video by id"}
    assert ways(engine, lambda: commit(engine, run, a_part(again), again)) == locking | changing
    assert ways(engine, lambda: mark_gone(engine, run, [one.video.uri for one in again])) == locking | changing


def test_known_videos_are_looked_up_by_their_uris(engine: Engine, run: RunRef) -> None:
    known = KnownVideos(engine, "/srv", RECIPE.digest)
    listed = [tape(number).video for number in range(10)]
    assert ways(engine, lambda: list(known.beside(listed))) == {"video by uri", "result by video_id, recipe_id"}
    assert ways(engine, lambda: list(known.missing())) == {"video by id"}


def test_failures_are_found_by_an_index(engine: Engine, run: RunRef) -> None:
    failed = [Failure(tape(number).video, "E_CORRUPT", "damaged") for number in range(3)]
    commit(engine, run, None, failed)
    assert ways(engine, lambda: failures(engine, run.recipe_id)) == {"result by recipe_id, state", "video by id"}
