"""`indexer rebuild`: a catalog made of nothing but parts says what the lost one said of every live row."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from indexer.catalog.anew import catalog_anew, open_sound
from indexer.catalog.lease import acquire
from indexer.config import Job, load_job
from indexer.errors import ConfigError, DatabaseError, RunHeld
from indexer.records import MediaInfo, Video
from indexer.upkeep.compact import compact
from indexer.upkeep.rebuild import Rebuilt, fill, rebuild
from indexer.upkeep.standing import FoundPart, standing_videos
from indexer.write.footer import SCHEMA_VERSION, Footer, PartVideo
from indexer.write.parquet import write_part
from indexer.write.read import read_videos
from tests.catalogs import LABELS, RECIPES, failed, indexed, stats
from tests.dump import assert_sound, live_rows_of_parts
from tests.fuses import Burning, Fuse, deaths
from tests.indexes import JOB, Index, three_runs
from tests.released import FOLDER
from tests.s3 import S3Place
from tests.synthetic import TextArchive


@pytest.fixture
def index(catalog_url: str, tmp_path: Path) -> Iterator[Index]:
    index = Index(catalog_url, str(tmp_path / "output"))
    yield index
    index.close()


def job_of(index: Index, folder: Path) -> Job:
    path = folder / "job.yaml"
    document = {
        "name": JOB,
        "source": {"uri": "/archive"},
        "model": {"name": "r3d_18", "weights": "random"},
        "output": {"uri": index.uri, "catalog": index.url},
    }
    path.write_text(yaml.safe_dump(document))
    return load_job(path)


def rebuilt(index: Index, folder: Path, *, force: bool = False) -> Rebuilt:
    """Afterwards the index has the new catalog open."""
    done = rebuild(job_of(index, folder), index.storage, force=force, progress=lambda *_: None)
    index.close()
    index.__init__(index.url, index.uri)  # type: ignore[misc]
    assert_sound(index.engine)
    assert index.codes() == []
    return done


def lose(index: Index) -> None:
    """The catalog, and everything that it knew."""
    index.close()
    if index.engine.dialect.name == "sqlite":
        Path(str(make_url(index.url).database)).unlink()
        return
    index.sql("DROP TABLE hit, label_stat, result, video, part, run, lease, label, recipe, alembic_version")
    index.close()


def damage(index: Index) -> None:
    index.close()
    path = Path(str(make_url(index.url).database))
    content = bytearray(path.read_bytes())
    content[100:] = b"\x5a" * (len(content) - 100)
    path.write_bytes(content)


def live(index: Index) -> list[dict[str, Any]]:
    """What is said of results with rows; what is pending or failed besides is for the next run."""
    return [
        {key: value for key, value in result.items() if key not in ("state", "fingerprint", "code")}
        for result in index.dump()
        if result["rows"]
    ]


def history(index: Index) -> None:
    """New, changed, withdrawn, gone, of two models, with parts that nobody needs any more."""
    three_runs(index)
    index.run(indexed("a", "1", ("archery", 0.4)), indexed("b", "1", ("yoga", 0.9)), recipe="B")  # and A's b is withdrawn
    index.run(indexed("b", "2", ("yoga", 0.2)), failed("f"))  # and B's b is withdrawn
    index.run(indexed("c", "2", ("bowling", 0.8)), indexed("e", "2", ("bowling", 0.3), ("yoga", 1.0)), parts=2)


def test_a_lost_catalog_is_made_anew_from_the_parts(index: Index, tmp_path: Path) -> None:
    history(index)
    before, counted = live(index), stats(index.engine)
    runs = [row[0] for row in index.ask("SELECT DISTINCT run_id FROM part ORDER BY 1")]
    lose(index)
    assert rebuilt(index, tmp_path) == Rebuilt(videos=6, segments=8, parts=6, retired=1)
    assert (live(index), stats(index.engine)) == (before, counted)
    assert live_rows_of_parts(index.engine, index.path("")) == index.rows()
    assert index.ask("SELECT id, outcome FROM run ORDER BY id") == [(n, "rebuilt") for n in runs]
    assert set(index.ask("SELECT source FROM video")) == {("/archive",)}
    # and life goes on: run ids, labels and recipes are those of before
    (name,) = index.run(indexed("a", "2", ("yoga", 0.6)))
    assert int(name.split("-")[1]) > runs[-1]
    assert index.codes() == []


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_part_of_every_release_is_as_good_as_a_new_one(tmp_path: Path, version: int) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    place = index.path("parts/part-000007-0001-aabbccdd.parquet")
    place.parent.mkdir(parents=True)
    shutil.copy(FOLDER / f"{version}.parquet", place)
    lose(index)
    assert rebuilt(index, tmp_path) == Rebuilt(videos=2, segments=3, parts=1)  # a deep check is part of it
    assert index.rows() == [
        ("/archive/a.mp4", "aa" * 32, 0, 10_000, "yoga", 9123),
        ("/archive/b é.mp4", "aa" * 32, 0, 10_000, "yoga", 3000),
    ]
    with place.open("rb") as file:
        a, b = read_videos(file)
    assert (a.video, a.warnings) == (Video("/archive/a.mp4", "2", 100, 5.0), ("W_X",))
    assert b.info == MediaInfo(0.0, 10.0, 320, 240, "h264", 25.0)
    assert [segment.embedding.tolist() for segment in a.segments] == [[0.912109375, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    index.run(gone=["a.mp4", "b é.mp4"])
    index.close()


def test_it_is_the_same_again_after_compaction_and_without_the_old_parts(index: Index, tmp_path: Path) -> None:
    for night in range(9):
        index.run(indexed(f"night{night}", "1", ("yoga", 0.5)), indexed("b", str(night), ("bowling", night / 10)))
    before = live(index)
    with index.lease() as lease:
        compact(index.engine, lease.token, index.storage, dry_run=False, progress=lambda *_: None)
    index.run(indexed("night3", "2", ("archery", 0.9)))
    after = live(index)
    assert before != after
    lose(index)
    assert rebuilt(index, tmp_path).parts == 2
    assert live(index) == after


def test_a_rewritten_part_does_not_count_for_later_than_its_rows(index: Index, tmp_path: Path) -> None:
    """Another job has committed a video between the reading and the transaction of a compaction."""
    for night in range(9):
        index.run(indexed(f"night{night}", "1", ("yoga", 0.5)))

    class Meanwhile(Fuse):
        def step(self) -> None:
            self.taken += 1
            if self.taken == 2:
                index.run(indexed("night3", "2", ("bowling", 0.9)))

    with acquire(index.engine, "another") as lease:
        storage = Burning(index.storage, Meanwhile())
        compact(index.engine, lease.token, storage, dry_run=False, progress=lambda *_: None)
    before = live(index)
    lose(index)
    rebuilt(index, tmp_path)
    assert live(index) == before


def test_a_sound_catalog_is_not_replaced_by_accident(index: Index, tmp_path: Path) -> None:
    history(index)
    before = index.dump()
    with pytest.raises(ConfigError, match=r"is sound, and knows what no part does: .* --force"):
        rebuild(job_of(index, tmp_path), index.storage, force=False, progress=lambda *_: None)
    assert index.dump() == before
    known, ids = live(index), index.ask("SELECT id, name FROM label ORDER BY id")
    assert rebuilt(index, tmp_path, force=True).videos == 6
    assert live(index) == known
    assert index.ask("SELECT id, name FROM label ORDER BY id") == ids  # there are not many of them
    assert len(index.dump()) < len(before)  # the failure is forgotten


def test_a_catalog_at_work_is_not_replaced(index: Index, tmp_path: Path) -> None:
    history(index)
    before = index.dump()
    for job in (JOB, "another"):
        with acquire(index.engine, job), pytest.raises(RunHeld):
            rebuild(job_of(index, tmp_path), index.storage, force=True, progress=lambda *_: None)
    assert index.dump() == before


def test_a_run_that_begins_meanwhile_keeps_the_catalog_that_it_made(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    history(index)
    lose(index)

    def begin(number: int, _: int) -> None:
        if number == 1:
            with closing(Index(index.url, index.uri)) as another:
                another.run(indexed("new", "1", ("yoga", 0.5)))

    with pytest.raises(RunHeld, match="was made by another program meanwhile"):
        rebuild(job_of(index, tmp_path), index.storage, force=False, progress=begin)
    again = Index(index.url, index.uri)
    assert [result["uri"] for result in again.dump()] == ["/archive/new"]
    again.close()


def test_without_parts_there_is_nothing_to_make_a_catalog_of(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    damage(index)
    content = (tmp_path / "catalog.db").read_bytes()
    with pytest.raises(ConfigError, match="has no parts to make a catalog of"):
        rebuild(job_of(index, tmp_path), index.storage, force=False, progress=lambda *_: None)
    assert (tmp_path / "catalog.db").read_bytes() == content
    assert rebuilt(index, tmp_path, force=True) == Rebuilt()
    index.close()


def test_a_damaged_file_is_replaced_and_what_lay_beside_it_too(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    history(index)
    before = live(index)
    damage(index)
    (tmp_path / "catalog.db-wal").write_bytes(b"of the old one")
    assert rebuilt(index, tmp_path).videos == 6
    assert live(index) == before
    index.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.db", "job.yaml", "output"]


def test_a_page_that_was_flipped_inside_is_noticed(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    history(index)
    index.close()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        page, size = (
            connection.execute(text).fetchone()[0]
            for text in ("SELECT rootpage FROM sqlite_master WHERE name = 'hit'", "PRAGMA page_size")
        )
    content = bytearray((tmp_path / "catalog.db").read_bytes())
    content[(page - 1) * size : (page - 1) * size + 12] = b"\x00" * 12
    (tmp_path / "catalog.db").write_bytes(content)
    assert open_sound(index.url) is None
    assert rebuilt(index, tmp_path).videos == 6
    index.close()


def test_another_database_is_not_taken_for_a_damaged_catalog(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    lose(index)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.execute("CREATE TABLE precious (x)")
    with pytest.raises(DatabaseError, match="holds something else"):
        rebuild(job_of(index, tmp_path), index.storage, force=True, progress=lambda *_: None)


def test_parts_that_cannot_be_read_are_named_and_the_rest_is_there(index: Index, tmp_path: Path) -> None:
    _, second, third = three_runs(index)
    content = index.path(second).read_bytes()
    index.path(second).write_bytes(content[:4] + b"\xff" * 60 + content[64:])  # the footer is whole
    index.path(third).write_bytes(b"PAR1")
    lose(index)
    done = rebuild(job_of(index, tmp_path), index.storage, force=False, progress=lambda *_: None)
    assert {finding.subject for finding in done.findings} == {second, third}
    assert (done.videos, done.parts) == (1, 1)
    index.close()
    again = Index(index.url, index.uri)
    assert [result["uri"] for result in again.dump()] == ["/archive/a"]
    again.close()


def test_parts_without_the_labels_of_their_model_are_no_use(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    part = write_part([indexed("a", "1", ("yoga", 0.5))], index.storage, recipe=RECIPES["A"], run_id=1, sequence=1)
    done = rebuild(job_of(index, tmp_path), index.storage, force=False, progress=lambda *_: None)
    assert [(one.subject, one.message) for one in done.findings] == [
        (part.name, "it cannot be read: its footer does not list the labels of its model")
    ]
    index.close()


def test_a_run_with_a_lost_catalog_is_warned(tmp_path: Path) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    archive.put("a.mp4", (("yoga", 0.5),))
    job = archive.job("texts")
    assert archive.run(job).warnings == []
    (tmp_path / "catalog.db").unlink()
    assert "`indexer rebuild JOB` makes it anew" in archive.run(job).warnings[-1]


def test_an_index_in_a_bucket_is_rebuilt_too(s3: S3Place, tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    history(index)
    before = live(index)
    lose(index)
    rebuilt(index, tmp_path)
    assert live(index) == before
    index.close()


def test_death_at_any_step_leaves_the_old_catalog_or_the_new_one(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    history(index)
    index.close()
    before = live(index)
    index.close()
    shutil.copy(tmp_path / "catalog.db", tmp_path / "template.db")

    def attempt(fuse: Fuse) -> None:
        """In a file that is sound: all in one transaction."""
        shutil.copy(tmp_path / "template.db", tmp_path / "catalog.db")
        opened = Index(index.url, index.uri)
        whole = opened.dump()
        try:
            with fuse.in_catalog(opened.engine):
                fill(opened.engine, opened.lease(), opened.storage, source="/archive", progress=lambda *_: None)
        finally:
            opened.free_lease()
            assert opened.dump() == whole or (len(opened.dump()) == 6 and live(opened) == before)
            opened.close()

    assert len(list(deaths(attempt))) > 50


def test_an_attempt_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    history(index)
    before = live(index)
    damage(index)

    with suppress(KeyboardInterrupt), catalog_anew(index.url) as engine:
        acquire(engine, JOB)
        raise KeyboardInterrupt
    assert (tmp_path / "catalog.db.rebuilding").exists()
    assert open_sound(index.url) is None
    with pytest.raises(RunHeld):  # it may be at work still
        rebuild(job_of(index, tmp_path), index.storage, force=False, progress=lambda *_: None)
    with closing(sqlite3.connect(tmp_path / "catalog.db.rebuilding")) as connection, connection:
        connection.execute("UPDATE lease SET began = 'another process'")
    assert rebuilt(index, tmp_path).videos == 6
    assert live(index) == before
    assert not (tmp_path / "catalog.db.rebuilding").exists()
    index.close()


# Which rows stand


def video(uri: str, run_id: int, fingerprint: str = "1") -> PartVideo:
    return replace(PartVideo.of(indexed("x", fingerprint, ("yoga", 0.5)), run_id), uri=uri)


def part(name: str, *videos: PartVideo, recipe: str = "A") -> FoundPart:
    return FoundPart(name, 1, 0.0, Footer(RECIPES[recipe], max(one.run_id for one in videos), LABELS, videos))


def standing(*parts: FoundPart) -> dict[str, list[tuple[str, int]]]:
    return {name: [(one.uri, one.run_id) for one in videos] for name, videos in standing_videos(parts).items()}


def test_the_latest_run_counts_and_all_recipes_speak_of_its_bytes() -> None:
    assert standing(part("p1", video("a", 1), video("b", 1)), part("p2", video("a", 2))) == {
        "p1": [("b", 1)],
        "p2": [("a", 2)],
    }
    later_of_b = part("p2", video("a", 2, "2"), recipe="B")
    assert standing(part("p1", video("a", 1)), later_of_b) == {"p1": [], "p2": [("a", 2)]}
    assert standing(part("p1", video("a", 1)), later_of_b, part("p3", video("a", 3))) == {"p1": [], "p2": [], "p3": [("a", 3)]}
    same_bytes = part("p2", video("a", 2), recipe="B")
    assert standing(part("p1", video("a", 1)), same_bytes) == {"p1": [("a", 1)], "p2": [("a", 2)]}
    rewritten = part("p9", video("a", 1), video("b", 5))
    assert standing(rewritten, part("p3", video("a", 3))) == {"p9": [("b", 5)], "p3": [("a", 3)]}
    assert standing(part("p1", video("a", 1)), rewritten) == {"p1": [], "p9": [("a", 1), ("b", 5)]}
    assert standing() == {}
