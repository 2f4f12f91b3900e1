"""`indexer.Index`: what a program gets of an index, with the same answers as the commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer import Index, Moment, Moments
from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.errors import ConfigError, QueryError
from indexer.recipe import make_recipe
from indexer.storage import open_storage
from tests.archives import Archive
from tests.test_similar import EAST, NORTH, NORTHEAST, OTHER, WEST, Library


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The index of job.yaml. All segments but the first of each video show the sky."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = load_job(Archive(tmp_path).write_job())
    engine = open_catalog(job.output.catalog, create=True)
    library = Library(engine, open_storage(job.output.uri), tmp_path / "shards")
    library.store({"a.mp4": (WEST, EAST, EAST), "b.mp4": (WEST, NORTH, EAST), "c.mp4": (NORTHEAST,)}, used=make_recipe(job))
    yield library
    engine.dispose()


@pytest.fixture
def index(library: Library) -> Iterator[Index]:
    with Index.open("job.yaml") as index:
        yield index


def test_moments_are_a_sequence(index: Index) -> None:
    moments = index.search("sky")
    assert list(moments) == [
        Moment("/archive/a.mp4", "sky", 1.0, 3.0, 0.5, 0.5, 2),
        Moment("/archive/b.mp4", "sky", 1.0, 3.0, 0.5, 0.5, 2),
    ]
    assert (len(moments), moments[-1].uri, moments.result.total) == (2, "/archive/b.mp4", 2)
    assert isinstance(moments[1:], Moments)
    assert list(moments[1:]) == [moments[1]]
    assert repr(index.search("sky", limit=1)) == "<1 of 2 moments for 'sky'>"
    assert [moment.uri for moment in index.search("sky", under="/archive/b", sort="video")] == ["/archive/b.mp4"]
    assert list(index.search("sky", min_score=0.6)) == []


def test_a_data_frame_has_one_row_for_each_moment(index: Index) -> None:
    frame = index.search("sky").to_pandas()
    assert frame.columns.tolist() == ["uri", "label", "start_seconds", "end_seconds", "score", "mean_score", "segments"]
    assert frame.iloc[1].tolist() == ["/archive/b.mp4", "sky", 1.0, 3.0, 0.5, 0.5, 2]
    none = index.search("sea").to_pandas()
    assert (len(none), none.columns.tolist()) == (0, frame.columns.tolist())


def test_an_embedding_is_the_mean_direction_of_a_moment(index: Index) -> None:
    moments = index.search("sky")
    vectors = moments.embeddings()
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(np.array([[1, 0], [2**-0.5, 2**-0.5]]), abs=1e-3)
    assert moments[1:].embeddings() == pytest.approx(vectors[1:])
    assert index.search("sea").embeddings().shape == (0, 0)


def test_an_example_is_a_moment_a_span_or_a_matrix(index: Index) -> None:
    best = index.search("sky")[0]
    alike = index.similar(best, limit=2)
    assert [(moment.uri, moment.start_seconds) for moment in alike] == [("/archive/b.mp4", 2.0), ("/archive/c.mp4", 0.0)]
    assert [moment.score for moment in alike] == pytest.approx([1.0, 0.6], abs=1e-3)
    assert list(index.similar("a.mp4@1-3", limit=2)) == list(alike)
    assert alike.result.query == "/archive/a.mp4@1-3"
    with_own = index.similar(best, with_own=True, limit=1)
    assert with_own[0].uri == "/archive/a.mp4"
    assert list(index.similar(np.array([EAST]), limit=1)) == list(with_own)
    assert [moment.uri for moment in index.similar(np.array([EAST]), under="/archive/c.mp4")] == ["/archive/c.mp4"]


def test_what_cannot_be_answered_is_said(index: Index, library: Library) -> None:
    with pytest.raises(QueryError) as caught:
        index.search("score:>0 skyy")
    assert (caught.value.problem, caught.value.candidates) == ("no label is called 'skyy'; nearest: 'sky'", ("sky",))
    assert caught.value.position == 9
    with pytest.raises(QueryError):
        index.search("sky score:>2")
    for options, message in (
        ({"sort": "bset"}, "sort: 'bset' is not known; allowed: best, newest, video"),
        ({"limit": 0}, "limit: 0 moments cannot be shown; give 1 or more"),
        ({"min_score": 90}, "min_score: 90 is no score; give 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            index.search("sky", **options)
    with pytest.raises(ConfigError, match=r"^no video of the index is called 'x.mp4'$"):
        index.similar("x.mp4@0-1")
    with pytest.raises(ConfigError, match=r"^the example has embeddings of 3 numbers; those of this index have 2$"):
        index.similar(np.ones((1, 3)))
    for example, shape in ((np.ones(2), r"\[2\]"), (np.ones((0, 2)), r"\[0, 2\]")):
        with pytest.raises(
            ConfigError, match=rf"^an example is a matrix \[n, width\] of at least one embedding, not {shape}$"
        ):
            index.similar(example)


def test_moments_of_another_model_have_no_embeddings_to_compare(index: Index, library: Library) -> None:
    library.store({"d.mp4": (EAST, EAST)}, used=OTHER)
    moments = index.search("sky")
    assert moments[-1].uri == "/archive/d.mp4"
    assert moments[:-1].embeddings().shape == (2, 2)
    with pytest.raises(ConfigError, match=r"^'/archive/d.mp4' is not indexed with the settings of this job"):
        moments.embeddings()


def test_runs_go_on_while_an_index_is_open(index: Index, library: Library) -> None:
    before = index.search("sky")
    library.store({"a.mp4": (EAST, EAST)}, used=make_recipe(index.job))
    assert [moment.end_seconds for moment in index.search("sky")] == [2.0, 3.0]
    assert before.result.total == 2
    assert index.search("sky").embeddings() == pytest.approx(np.array([[1, 0], [2**-0.5, 2**-0.5]]), abs=1e-3)


def test_an_index_is_read_and_never_made(tmp_path: Path) -> None:
    path = Archive(tmp_path).write_job()
    with pytest.raises(ConfigError, match=r"^there is no index yet: .* First: indexer run"):
        Index.open(path)
    assert not (tmp_path / "index").exists()


def test_only_what_is_used_is_imported() -> None:
    code = """if True:
        import sys
        import indexer
        heavy = {"torch", "ray", "av", "pandas", "pyarrow"}
        print(sorted((heavy | {"numpy", "sqlalchemy", "pydantic"}) & set(sys.modules)), hasattr(indexer, "Inde"))
        from indexer import Index
        print(sorted(heavy & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[] False\n[]\n"
