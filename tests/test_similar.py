"""What `indexer similar` finds: exactly the nearest live segments, as moments, from shards that nobody has to look after."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import Engine

from indexer.catalog.commit import RunRef, claim, commit, mark_gone, start_run
from indexer.catalog.lease import acquire
from indexer.errors import ConfigError, OutputError, SourceError
from indexer.records import IndexedVideo, MediaInfo, Recipe, Segment, Video
from indexer.search import Coverage, SearchResult, cells
from indexer.search.alike import NearSegment, alike_moments
from indexer.search.dots import BLOCK_ROWS, dots, mean_direction, unit_vectors
from indexer.search.shards import Shards, shards_folder
from indexer.search.similar import similar
from indexer.search.span import Span
from indexer.similar_view import show_similar
from indexer.storage import Storage, open_storage
from indexer.write.parquet import write_part
from tests.archives import Archive
from tests.s3 import S3Place

EAST, NORTH, NORTHEAST, WEST = (1.0, 0.0), (0.0, 1.0), (0.6, 0.8), (-1.0, 0.0)
SHORT = Recipe("a" * 64, json.dumps({"model": {"name": "r3d_18"}, "sampling": {"segment": 1.0}}))
OTHER = Recipe("b" * 64, json.dumps({"model": {"name": "s3d"}, "sampling": {"segment": 1.0}}))

Vectors = tuple[tuple[float, float], ...]


class Library:
    """An index of real parts, whose embeddings the test chooses: one segment a second."""

    def __init__(self, engine: Engine, storage: Storage, folder: Path) -> None:
        self.engine = engine
        self.storage = storage
        self.folder = folder
        self.notes: list[str] = []
        self.shards = Shards(storage, folder, note=self.notes.append)
        self._runs = 0

    def start(self, used: Recipe = SHORT) -> RunRef:
        self._runs += 1
        return start_run(self.engine, lease=acquire(self.engine, f"job {self._runs}"), recipe=used, labels=["sky", "sea"])

    def store(self, videos: dict[str, Vectors], *, used: Recipe = SHORT, first_ms: int = 0) -> str:
        """All in one part, whose name it gives; the first segment of each begins at `first_ms`."""
        run = self.start(used)
        indexed = [
            IndexedVideo(
                Video(f"/archive/{name}", f"{self._runs}", size_bytes=1, modified_at=5.0),
                MediaInfo(0.0, len(vectors), 320, 240, "h264", 25.0),
                tuple(
                    Segment(
                        first_ms + 1000 * n,
                        first_ms + 1000 * (n + 1),
                        1,
                        ("sky",) if n else (),
                        (0.5,) if n else (),
                        np.array(vector, np.float16),
                    )
                    for n, vector in enumerate(vectors)
                ),
                (),
            )
            for name, vectors in videos.items()
        ]
        claim(self.engine, run, "/archive", [one.video for one in indexed])
        part = write_part(indexed, self.storage, recipe=used, run_id=run.run_id, sequence=self._runs)
        assert commit(self.engine, run, part, indexed).dropped == ()
        return part.name

    def ask(self, example: Any = (EAST,), **options: Any) -> SearchResult:
        example = example if isinstance(example, Span) else np.array(example)
        return similar(self.engine, self.shards, example, SHORT.digest, name="example", **options)

    def found(self, example: Any = (EAST,), **options: Any) -> list[tuple[str, float, float, float]]:
        moments = self.ask(example, **options).moments
        return [(Path(m.uri).name, m.start_seconds, m.end_seconds, round(m.score, 3)) for m in moments]


@pytest.fixture
def library(engine: Engine, tmp_path: Path) -> Library:
    return Library(engine, open_storage(str(tmp_path / "index")), tmp_path / "shards")


finite_bits = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7C00 != 0x7C00)


@given(arrays(np.uint16, (7, 5), elements=finite_bits), arrays(np.float32, 5, elements=st.floats(-1, 1, width=32)))
def test_a_scan_gives_the_dot_products_of_all_finite_numbers(bits: Any, query: Any) -> None:
    vectors = bits.view(np.float16)
    (found,) = dots([vectors], query, [None])
    size = np.abs(vectors.astype(np.float64)) @ np.abs(query.astype(np.float64))
    assert np.all(np.abs(found - vectors.astype(np.float64) @ query.astype(np.float64)) <= 1e-6 * size + 1e-30)


def test_a_scan_of_many_blocks_leaves_out_what_is_not_wanted() -> None:
    rows = 70 * BLOCK_ROWS + 3
    vectors = np.stack([np.arange(rows) % 1000, np.ones(rows)], axis=1).astype(np.float16)
    wanted = np.arange(rows) % 7 == 0
    wanted[BLOCK_ROWS : 2 * BLOCK_ROWS] = False
    expected = np.where(wanted, np.arange(rows) % 1000 * 2 + 1, -np.inf)
    whole, some, none = dots([vectors, vectors, vectors[:0]], np.array([2, 1], np.float32), [None, wanted, None])
    assert np.array_equal(whole, np.arange(rows) % 1000 * 2 + 1)
    assert np.array_equal(some, expected)
    assert len(none) == 0


def test_a_vector_without_direction_is_near_to_nothing() -> None:
    units = unit_vectors(np.array([[3, 4], [0, 0], [np.inf, 1], [np.nan, 1]], np.float16))
    assert np.array_equal(units, np.array([[0.6, 0.8], [0, 0], [0, 0], [0, 0]], np.float16))
    assert mean_direction(np.array([EAST, WEST])).tolist() == [0, 0]


@pytest.fixture
def coarse(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    """An index that is large enough for cells, which are small: 400 directions around a circle, one segment each."""
    pytest.importorskip("faiss")
    monkeypatch.setattr(cells, "FROM_SEGMENTS", 100)
    angles = np.arange(400) / 400 * 2 * np.pi
    library.store({f"{n}.mp4": ((float(np.cos(a)), float(np.sin(a))),) for n, a in enumerate(angles)})
    return library


def nearest(library: Library, **options: Any) -> list[str]:
    return [Path(moment.uri).name for moment in library.ask(limit=7, **options).moments]


def test_cells_find_what_comparing_everything_finds(coarse: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["0.mp4", "1.mp4", "399.mp4", "2.mp4", "398.mp4", "3.mp4", "397.mp4"]
    exact = coarse.ask(limit=7, exact=True)
    assert (exact.exact, exact.compared, coarse.notes) == (True, 400, ["reading the embeddings of 1 new part ..."])
    coarse.notes.clear()
    monkeypatch.setattr(cells, "PROBED", 3)
    assert not coarse.shards.cells.learned
    found = coarse.ask(limit=7)
    assert coarse.shards.cells.learned
    assert coarse.notes == ["learning 16 cells from a sample of 400 segments, once ...",
                            "putting 400 segments into their cells, once ..."]  # fmt: skip
    assert (nearest(coarse), found.moments) == (expected, exact.moments)
    assert (found.exact, found.total) == (False, None)
    assert found.compared is not None
    assert 7 < found.compared < 200
    assert len(coarse.notes) == 2  # and not for the second question


def test_with_cells_what_comes_and_goes_is_seen_at_once(coarse: Library, engine: Engine) -> None:
    assert nearest(coarse)[:2] == ["0.mp4", "1.mp4"]
    coarse.store({"new.mp4": (NORTH, EAST, (0.99, 0.01)), "1.mp4": (WEST,)})
    assert nearest(coarse)[:3] == ["0.mp4", "399.mp4", "new.mp4"]  # all of 1.000 in float16
    (new,) = [moment for moment in coarse.ask(limit=7).moments if moment.uri.endswith("new.mp4")]
    assert (new.start_seconds, new.end_seconds, new.segments) == (1, 3, 2)
    mark_gone(engine, coarse.start(), ["/archive/0.mp4"])
    assert nearest(coarse)[:2] == ["399.mp4", "new.mp4"]
    assert nearest(coarse, under="/archive/3") == nearest(coarse, under="/archive/3", exact=True)


def test_cells_that_are_damaged_lost_or_outgrown_are_made_again(coarse: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = nearest(coarse)
    files = sorted(coarse.folder.with_name("shards-cells").iterdir())
    assert len(files) == 2
    for damage in (lambda path: path.write_bytes(b"no"), lambda path: path.write_bytes(path.read_bytes()[:-100]), Path.unlink):
        for path in files:
            damage(path)
            coarse.notes.clear()
            assert (nearest(coarse), len(coarse.notes) > 0) == (expected, True)
    coarse.notes.clear()
    monkeypatch.setattr(cells, "_OUTGROWN", 0.5)
    assert nearest(coarse) == expected
    assert coarse.notes[0] == "learning 16 cells from a sample of 400 segments, once ..."
    coarse.shards.keep([])
    assert [path.name for path in coarse.folder.with_name("shards-cells").iterdir()] == ["centroids.npz"]


def test_without_faiss_everything_is_compared(coarse: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "has_faiss", lambda: False)
    assert coarse.ask().exact
    assert not coarse.folder.with_name("shards-cells").exists()


def moments_of(*cosines: float | None, ordinary: float = 0.5) -> list[tuple[float, float, float, int]]:
    near = [NearSegment(1000 * n, 1000 * (n + 1), cosine, "") for n, cosine in enumerate(cosines) if cosine is not None]
    found = alike_moments("a", near, ordinary=ordinary, least_peak=-1.0, segment_ms=1000)
    return [(moment.start_seconds, moment.end_seconds, moment.score, moment.segments) for moment in found]


def test_what_is_about_as_near_as_its_best_segment_is_one_moment() -> None:
    assert moments_of(0.52, 0.93, 0.97, 0.95, 0.60, 0.58) == [(1, 4, 0.97, 3), (4, 6, 0.6, 2), (0, 1, 0.52, 1)]
    assert moments_of(0.9, 0.1, 0.9) == [(0, 3, 0.9, 2)]  # a gap of one segment still belongs
    assert moments_of(0.9, 0.1, 0.1, 0.9) == [(0, 1, 0.9, 1), (3, 4, 0.9, 1), (1, 3, 0.1, 2)]
    assert moments_of(0.9, None, 0.9, None, None, 0.9) == [(0, 3, 0.9, 2), (5, 6, 0.9, 1)]
    assert moments_of() == []


@given(st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=40))
def test_moments_do_not_overlap_and_hold_every_segment(hundredths: list[int | None]) -> None:
    found = moments_of(*(None if n is None else n / 100 for n in hundredths))
    held = [n for start, end, _, _ in found for n in range(int(start), int(end)) if hundredths[n] is not None]
    assert sorted(held) == [n for n, cosine in enumerate(hundredths) if cosine is not None]
    assert [score for _, _, score, _ in found] == sorted((score for _, _, score, _ in found), reverse=True)


def test_the_nearest_come_first_with_their_cosines(library: Library) -> None:
    library.store({"a.mp4": (NORTH, (50.0, 0.0)), "b.mp4": (NORTHEAST,)})
    library.store({"c.mp4": (WEST,)})
    answer = library.ask()
    assert library.found() == [("a.mp4", 1, 2, 1.0), ("b.mp4", 0, 1, 0.6), ("a.mp4", 0, 1, 0.0)]
    assert [moment.label for moment in answer.moments] == ["sky", "", ""]
    assert answer.total == 3
    assert answer.coverage == Coverage(videos=3, indexed=3, failed=0, pending=0, skipped=0)
    assert answer.videos["/archive/a.mp4"].duration_seconds == 2.0
    assert library.found(min_score=0.5) == [("a.mp4", 1, 2, 1.0), ("b.mp4", 0, 1, 0.6)]
    assert library.found(under="/archive/b") == [("b.mp4", 0, 1, 0.6)]
    assert library.found(under="/nowhere/") == []


def test_a_span_is_compared_by_all_segments_that_it_touches_but_not_with_them(library: Library) -> None:
    library.store({"a.mp4": (WEST, EAST, NORTH, NORTHEAST), "b.mp4": (EAST, WEST, WEST, NORTH)})
    span = Span("/archive/a.mp4", 1.5, 2.5)  # points to the north-east, but not as NORTHEAST
    assert library.found(span) == [("a.mp4", 3, 4, 0.99), ("b.mp4", 0, 1, 0.707), ("b.mp4", 3, 4, 0.707)]
    assert library.found(span, with_own=True)[:2] == [("a.mp4", 3, 4, 0.99), ("a.mp4", 1, 3, 0.707)]
    assert library.found(Span("/archive/b.mp4", 1, 2))[0] == ("a.mp4", 0, 1, 1.0)


def test_a_span_does_not_touch_the_segments_that_it_ends_at(library: Library) -> None:
    # 1000 * 1.001 is less than 1001, and 1000 * 2.007 more than 2007: in videos whose first picture comes late.
    library.store({"a.mp4": (NORTH, EAST, NORTH)}, first_ms=1)
    library.store({"b.mp4": (NORTH, EAST, NORTH)}, first_ms=7)
    for name, first, start, end in (("a.mp4", 0.001, 1.001, 2.001), ("b.mp4", 0.007, 1.007, 2.007)):
        span = Span(f"/archive/{name}", start, end)
        assert (name, start, end, 1.0) in library.found(span, with_own=True)
        assert [found[:2] for found in library.found(span) if found[0] == name] == [(name, first), (name, end)]


def test_moments_do_not_depend_on_how_many_are_asked_for(library: Library) -> None:
    random = np.random.default_rng(5)
    angles = {f"{n:02}.mp4": random.uniform(0, np.pi / 2, 40) for n in range(30)}
    library.store({name: tuple((np.cos(angle), np.sin(angle)) for angle in of) for name, of in angles.items()})
    everything = library.ask(limit=2000)
    assert everything.total == len(everything.moments) > 500
    some = library.ask(limit=7)
    assert (some.moments, some.total) == (everything.moments[:7], None)


def test_a_thousand_segments_that_look_the_same_are_all_nearest(library: Library) -> None:
    library.store({f"{n:03}.mp4": (EAST, NORTH, NORTH, EAST) for n in range(500)})
    assert library.found(limit=2) == [("000.mp4", 0, 1, 1.0), ("000.mp4", 3, 4, 1.0)]


def test_what_is_added_replaced_and_gone_shows_at_once(library: Library) -> None:
    library.store({"a.mp4": (EAST,), "b.mp4": (EAST, EAST)})
    assert library.found() == [("a.mp4", 0, 1, 1.0), ("b.mp4", 0, 2, 1.0)]
    library.store({"b.mp4": (NORTHEAST,), "c.mp4": (EAST,)})
    assert library.found() == [("a.mp4", 0, 1, 1.0), ("c.mp4", 0, 1, 1.0), ("b.mp4", 0, 1, 0.6)]
    mark_gone(library.engine, library.start(), ["/archive/c.mp4"])
    assert library.found() == [("a.mp4", 0, 1, 1.0), ("b.mp4", 0, 1, 0.6)]
    with pytest.raises(ConfigError, match=r"^'/archive/c.mp4' is not indexed with the settings of this job"):
        library.ask(Span("/archive/c.mp4", 0, 1))


def test_shards_are_made_once_and_go_with_their_parts(library: Library) -> None:
    library.store({"a.mp4": (EAST,)})
    library.store({"b.mp4": (NORTH, NORTH)})
    library.ask()
    assert library.notes == ["reading the embeddings of 2 new parts ..."]
    kept = set(library.folder.iterdir())
    library.shards = Shards(library.storage, library.folder, note=library.notes.append)
    library.ask()
    assert (len(library.notes), set(library.folder.iterdir())) == (1, kept)
    library.store({"a.mp4": (NORTH,)})  # nothing is left of the first part
    library.ask()
    assert library.notes[1:] == ["reading the embeddings of 1 new part ..."]
    assert len(kept & set(library.folder.iterdir())) == 1
    assert len(list(library.folder.iterdir())) == 2


def test_results_of_another_recipe_are_never_compared(library: Library) -> None:
    library.store({"a.mp4": (EAST,)}, used=OTHER)
    with pytest.raises(ConfigError, match=r"^nothing is indexed with the settings of this job yet"):
        library.ask()
    library.store({"b.mp4": (NORTHEAST,)})
    answer = library.ask()
    assert [moment.uri for moment in answer.moments] == ["/archive/b.mp4"]
    assert (answer.coverage.indexed, answer.coverage.pending) == (1, 1)
    with pytest.raises(ConfigError, match="is not indexed with the settings of this job"):
        library.ask(Span("/archive/a.mp4", 0, 1))


def test_a_span_behind_the_end_is_said(library: Library) -> None:
    library.store({"a.mp4": (EAST, EAST)})
    with pytest.raises(ConfigError, match=r"^'/archive/a.mp4' has no segment there: it is indexed up to second 2$"):
        library.ask(Span("/archive/a.mp4", 2, 3))


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("length", [0, 10, 900])
def test_a_shard_that_is_cut_off_is_made_again(library: Library, length: int) -> None:
    library.store({"a.mp4": (EAST,)})
    library.ask()
    (shard,) = library.folder.iterdir()
    whole = shard.read_bytes()
    shard.unlink()  # the old one is still mapped
    shard.write_bytes(whole[:length])
    library.shards = Shards(library.storage, library.folder)
    assert library.found() == [("a.mp4", 0, 1, 1.0)]
    assert shard.read_bytes() == whole


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_part_that_is_damaged_or_lost_is_named(library: Library, tmp_path: Path) -> None:
    part = tmp_path / "index" / library.store({"a.mp4": (EAST,)})
    whole = part.read_bytes()
    for damaged in (b"", whole[:100], whole[:-300] + bytes(292) + whole[-8:], whole[:4] + bytes(900) + whole[904:]):
        part.write_bytes(damaged)
        with pytest.raises(OutputError, match=f"^{part} cannot be read: "):
            library.ask()
    part.unlink()
    with pytest.raises(OutputError, match=f"^{part}: No such file"):
        library.ask()


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_no_room_for_shards_is_said(library: Library) -> None:
    library.store({"a.mp4": (EAST,)})
    library.folder.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"shards: File exists. .*XDG_CACHE_HOME moves it to another disk\.$"):
        library.ask()


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_parts_in_s3_are_searched_from_local_shards(engine: Engine, s3: S3Place, tmp_path: Path) -> None:
    library = Library(engine, open_storage(f"{s3.uri}/index"), tmp_path / "shards")
    library.store({"a.mp4": (EAST,), "b.mp4": (NORTHEAST,)})
    assert library.found() == [("a.mp4", 0, 1, 1.0), ("b.mp4", 0, 1, 0.6)]
    s3.proxy.requests.clear()
    assert library.found(Span("/archive/a.mp4", 0, 1)) == [("b.mp4", 0, 1, 0.6)]
    assert s3.proxy.requests == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Three videos of two segments, the first two of which show the same."""
    with pytest.MonkeyPatch.context() as patch:
        archive = Archive(tmp_path_factory.mktemp("archive"))
        patch.setenv("XDG_CACHE_HOME", str(archive.folder / "cache"))
        archive.add("a.mp4")
        shutil.copy(archive.videos / "a.mp4", archive.videos / "b.mp4")
        archive.add("c.mp4", first=14)
        assert archive.run().ended == "complete"
        yield archive


def show(archive: Archive, span: str | None, **options: Any) -> None:
    chosen: dict[str, Any] = {"file": None, "min_score": 0.0, "under": None, "with_own": False, "limit": None, "exact": False}
    chosen |= {"export": None, "output": None, "force": False, "as_json": False}
    show_similar(span, archive.job_path, **chosen | options)


def test_the_copy_of_a_video_is_most_like_it(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    show(archive, "a.mp4@0-2", limit=1)
    out, err = capsys.readouterr()
    header, row = (line.split() for line in out.splitlines())
    assert header == ["from", "to", "score", "label", "video"]
    assert row[0] == "00:00:00"
    assert row[-1] == str(archive.videos / "b.mp4")
    assert re.fullmatch(r"\d moments, nearest 1 shown; \d+ ms", err.splitlines()[-2])
    assert err.splitlines()[-1] == "3 of 3 videos are indexed"
    assert list(shards_folder(str(archive.folder / "index")).iterdir())


def test_json_has_the_form_of_a_search(archive: Archive) -> None:
    only = ("--under", str(archive.videos / "a.mp4"))
    ended = archive.command("similar", "b.mp4@0-1", "--job", str(archive.job_path), "--json", *only)
    document = json.loads(ended.stdout)
    names = {"query", "labels", "candidates", "unknown", "commonest", "moments", "total", "total_at_most"}
    names |= {"compared", "exact", "coverage"}
    assert set(document) == names
    assert document["query"] == "b.mp4@0-1"
    assert {moment["uri"] for moment in document["moments"]} == {str(archive.videos / "a.mp4")}
    assert document["moments"][0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert document["total"] == len(document["moments"])


def test_a_file_gets_the_embeddings_that_a_run_would_give_it(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(archive.videos / "c.mp4")
    show(archive, None, file=str(link), export="csv")
    from_file = capsys.readouterr().out
    show(archive, "c.mp4@0-2", with_own=True, export="csv")
    assert from_file == capsys.readouterr().out
    assert str(archive.videos / "c.mp4") in from_file.splitlines()[1]


def test_an_example_that_cannot_be_used_is_said(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(SourceError, match=r"notes.mp4 cannot be compared: "):
        show(archive, None, file=str(tmp_path / "notes.mp4"))
    with pytest.raises(SourceError, match=r"absent.mp4 cannot be compared: there is no such file"):
        show(archive, None, file=str(tmp_path / "absent.mp4"))
    for span, file in ((None, None), ("a.mp4@0-1", "b.mp4")):
        with pytest.raises(ConfigError, match=r"^give one example: "):
            show(archive, span, file=file)
    with pytest.raises(ConfigError, match=r"no video of the index is called 'x.mp4'"):
        show(archive, "x.mp4@0-1")
