"""`indexer forget`: afterwards no file of the index knows anything of the video, and all others are as they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from indexer.catalog.commit import claim, commit, start_run
from indexer.catalog.connect import open_catalog, reading
from indexer.catalog.lease import acquire
from indexer.catalog.parts import list_parts
from indexer.config import load_job
from indexer.errors import ConfigError, LeaseLost, OutputError, RunHeld
from indexer.observe.forget import forget_in_logs, forget_in_reports
from indexer.observe.listeners import Listeners
from indexer.observe.page import RunPage
from indexer.observe.runlog import open_log
from indexer.records import Failure, IndexedRange, Video
from indexer.report import Tally
from indexer.search.shards import ShardedPart, Shards, shards_folder
from indexer.storage import open_storage
from indexer.storage.copies import copies_folder, copy_name
from indexer.upkeep.forget import Forgotten, find_uri, forget
from indexer.upkeep_view import show_check, show_forget
from indexer.write.parquet import write_part
from indexer.write.read import read_footer, read_videos
from indexer.write.staging import Staging
from tests.archives import Heard
from tests.catalogs import LABELS, RECIPES, failed, indexed
from tests.dump import assert_sound
from tests.fuses import Burning, Fuse, deaths
from tests.indexes import CopiesOf, Index, three_runs
from tests.s3 import S3Place
from tests.synthetic import TextArchive


@pytest.fixture
def index(catalog_url: str, tmp_path: Path) -> Iterator[Index]:
    index = Index(catalog_url, str(tmp_path / "output"))
    yield index
    assert_sound(index.engine)
    index.close()


def forgotten(index: Index, name: str, progress: Callable[[int, int], None] = lambda *_: None) -> Forgotten:
    with index.lease() as lease:
        shards = Shards(index.storage, Path(index.uri) / "shards")
        return forget(
            index.engine,
            lease.token,
            index.storage,
            shards,
            Path(index.uri) / "copies",
            f"/archive/{name}",
            progress=progress,
        )


def in_files(index: Index) -> set[str]:
    """Names of all videos that any Parquet file has, in rows or footer."""
    found = set()
    for name in index.files():
        if name.endswith(".parquet"):
            with index.storage.open(name) as file:
                found |= {video.video.uri.removeprefix("/archive/") for video in read_videos(file)}
                found |= {video.uri.removeprefix("/archive/") for video in read_footer(file).videos}
    return found


def everywhere(index: Index) -> None:
    """b has live rows, replaced ones, ones of another model, staged ones, and some in a part that nobody knows."""
    three_runs(index)
    index.run(indexed("a", "1", ("archery", 0.4)), indexed("b", "2", ("yoga", 0.9)), failed("f"), recipe="B")
    index.orphan(indexed("b", "2", ("yoga", 0.5)), indexed("c", "1", ("yoga", 0.5)))
    with index.lease() as lease:
        run = start_run(index.engine, lease=lease, recipe=RECIPES["A"], labels=LABELS)
        claim(index.engine, run, "/archive", [indexed("b", "3").video])
        Staging(index.storage, RECIPES["A"], run.run_id).save(IndexedRange((0, 1), indexed("b", "3", ("yoga", 0.1))))
    index.path("parts/.part-000001-0001-aa.parquet.tmp").write_bytes(b"PAR1 /archive/b")


def test_no_file_knows_of_it_any_more(index: Index) -> None:
    everywhere(index)
    before = index.dump()
    assert in_files(index) == {"a", "b", "c", "d", "e"}
    assert forgotten(index, "b") == Forgotten("/archive/b", rewritten=3, deleted=3)
    assert in_files(index) == {"a", "c", "d", "e"}
    assert [name for name in index.files() if "staging" in name or name.endswith(".tmp")] == []
    assert index.dump() == [result for result in before if result["uri"] != "/archive/b"]
    assert index.codes() == []
    assert index.findings() == []
    with pytest.raises(ConfigError, match="not known"):
        find_uri(index.engine, "/archive/b")


def test_a_part_of_it_alone_is_deleted(index: Index) -> None:
    index.run(indexed("only", "1", ("yoga", 0.5)))
    index.run(failed("only", "2"))
    assert forgotten(index, "only") == Forgotten("/archive/only", rewritten=0, deleted=1)
    assert (index.dump(), index.files()) == ([], [])


def test_what_never_had_rows_can_be_forgotten(index: Index) -> None:
    three_runs(index)
    index.run(failed("f"), gone=["e"])
    files = index.files()
    assert forgotten(index, "f") == Forgotten("/archive/f", rewritten=0, deleted=0)
    assert index.files() == files
    assert forgotten(index, "e").rewritten == 1
    assert in_files(index) == {"a", "b", "c", "d"}


def test_its_name_is_not_left_in_the_bytes_of_the_database(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", str(tmp_path / "output"))
    index.run(
        *[indexed(f"v{n}", "1", ("yoga", 0.5)) for n in range(200)], failed("v77secret", message="/archive/v77secret: no")
    )
    index.run(indexed("v77secret", "2", ("yoga", 0.5)))
    forgotten(index, "v77secret")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"v77secret" in path.read_bytes()]
    assert len(index.dump()) == 200
    index.close()


HOSTILE = '/archive/a "<1>" & é\udcff.mp4'


def test_its_name_is_not_left_in_logs_and_reports(tmp_path: Path) -> None:
    document = {"name": "test", "source": {"uri": "/archive"}, "model": {"name": "r3d_18"}, "output": {"uri": str(tmp_path)}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
    job = load_job(tmp_path / "job.yaml")
    heard = Heard()
    others = Video("/archive/b.mp4", "1", 1, 0.0), Video("/archive/a", "1", 1, 0.0)
    for run_id, outcomes in (
        (1, [Failure(Video(HOSTILE, "1", 1, 0.0), "E_ACCESS", "no"), Failure(others[0], "E_ACCESS", "no")]),
        (2, [Failure(others[0], "E_ACCESS", "no"), Failure(others[1], "E_ACCESS", f"links to {HOSTILE}: no")]),
        (3, [Failure(others[0], "E_ACCESS", "no")]),
    ):
        run_log = open_log(job, heard.warn)
        assert run_log is not None
        told = Listeners([RunPage(job, heard.warn), run_log])
        tally = Tally(run_id=run_id)
        told.started(tally)
        for outcome in outcomes:
            tally.add(outcome)
            told.outcome(outcome)
        told.finished(tally, "partial")
        (log,) = (tmp_path / "logs").glob("*Z-*.jsonl")  # of one second
        log.rename(log.with_name(f"{run_id}.jsonl"))
    with (tmp_path / "logs/2.jsonl").open("a") as cut:
        cut.write('{"event": "video_done", "uri": "/archive/a ')
    storage = open_storage(str(tmp_path))
    assert (forget_in_logs(storage, HOSTILE), forget_in_reports(storage, HOSTILE)) == (3, 2)
    assert heard.warnings == []
    told_of = [
        json.loads(line).get("uri") for n in (1, 2, 3) for line in (tmp_path / f"logs/{n}.jsonl").read_text().splitlines()
    ]
    assert told_of == [None, "/archive/b.mp4", None] * 3
    assert sorted(page.name for page in (tmp_path / "reports").iterdir()) == ["latest.html", "run-3.html"]
    assert len(list((tmp_path / "logs").iterdir())) == 3


def test_a_name_that_is_not_known_gets_the_nearest(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.run(indexed("2019/fair.mp4", "1", ("yoga", 0.5)), indexed("2020/snow.mp4", "1", ("yoga", 0.5)))
    assert find_uri(index.engine, "/archive/2019/fair.mp4") == "/archive/2019/fair.mp4"
    with pytest.raises(ConfigError, match=r"fair.mp4 is not known .* Did you mean /archive/2019/fair.mp4\?"):
        find_uri(index.engine, "fair.mp4")
    with pytest.raises(ConfigError, match=r"Did you mean /archive/2020/snow.mp4"):
        find_uri(index.engine, "/archive/2020/snov.mp4")
    with pytest.raises(ConfigError, match=r"as `indexer search` shows it\.$"):
        find_uri(index.engine, "qqqq")


def test_a_part_that_cannot_be_read_may_hold_it(index: Index) -> None:
    _, _, third = three_runs(index)
    index.path(third).write_bytes(b"damaged")
    with pytest.raises(OutputError, match=rf"{third} cannot be read, so nobody can say"):
        forgotten(index, "b")
    assert "/archive/b" not in {row[0] for row in index.rows()}
    index.path(third).unlink()
    forgotten(index, "b")
    assert in_files(index) == {"a", "c"}


def test_what_cannot_be_deleted_is_said_and_done_again(index: Index) -> None:
    three_runs(index)
    copy = index.path("copies") / copy_name(Video("/archive/b", "1", 1, 0.0), 0, 5000)
    copy.mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"{copy.name}: Is a directory. Delete it"):
        forgotten(index, "b")
    copy.rmdir()
    forgotten(index, "b")
    assert in_files(index) == {"a", "c", "d", "e"}


def test_it_waits_for_other_jobs(index: Index) -> None:
    three_runs(index)
    before = index.dump()
    with acquire(index.engine, "another"), pytest.raises(RunHeld, match="Another job is at work"):
        forgotten(index, "b")
    assert index.dump() == before


def test_who_was_frozen_cannot_bring_it_back(index: Index) -> None:
    three_runs(index)
    frozen = acquire(index.engine, "another")
    run = start_run(index.engine, lease=frozen, recipe=RECIPES["A"], labels=LABELS)
    claim(index.engine, run, "/archive", [indexed("b", "3").video])
    index.sql("UPDATE lease SET expires_at = 0")
    forgotten(index, "b")
    with pytest.raises(LeaseLost):
        claim(index.engine, run, "/archive", [indexed("b", "3").video])
    assert "/archive/b" not in {result["uri"] for result in index.dump()}


def test_a_run_that_begins_meanwhile_may_have_found_it_again(index: Index) -> None:
    three_runs(index)

    def another_job(number: int, _: int) -> None:
        if number == 0:
            with acquire(index.engine, "another") as held:
                run = start_run(index.engine, lease=held, recipe=RECIPES["A"], labels=LABELS)
                found = indexed("b", "3", ("yoga", 0.2))
                claim(index.engine, run, "/archive", [found.video])
                part = write_part([found], index.storage, recipe=RECIPES["A"], run_id=run.run_id, sequence=1, labels=LABELS)
                commit(index.engine, run, part, [found])

    with pytest.raises(RunHeld, match="may have found the video again"):
        forgotten(index, "b", another_job)
    assert ("/archive/b", "aa" * 32, 0, 10_000, "yoga", 2000) in index.rows()
    forgotten(index, "b")
    assert in_files(index) == {"a", "c", "d", "e"}
    assert index.codes() == []


def test_an_index_in_a_bucket_forgets_too(s3: S3Place, tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    three_runs(index)
    assert forgotten(index, "b") == Forgotten("/archive/b", rewritten=2, deleted=0)
    assert in_files(index) == {"a", "c", "d", "e"}
    assert index.codes() == []
    index.close()


def test_death_at_any_step_can_be_gone_on_with(tmp_path: Path, copies_of: CopiesOf) -> None:
    copy = copies_of(everywhere)
    untouched = copy()
    before = untouched.dump()
    untouched.close()
    expected = [result for result in before if result["uri"] != "/archive/b"]

    def do(index: Index, fuse: Fuse) -> None:
        with fuse.in_catalog(index.engine):
            lease = index.lease()
            storage, shards = Burning(index.storage, fuse), Shards(index.storage, tmp_path / "shards")
            forget(index.engine, lease.token, storage, shards, tmp_path / "copies", "/archive/b", progress=lambda *_: None)
            lease.release()

    def attempt(fuse: Fuse) -> None:
        index = copy()
        try:
            do(index, fuse)
        finally:
            index.free_lease()
            assert index.codes() == []
            assert [result for result in index.dump() if result["uri"] != "/archive/b"] == expected
            if index.ask("SELECT * FROM video WHERE uri = '/archive/b'"):
                do(index, Fuse())
            assert index.dump() == expected
            assert "b" not in in_files(index)
            assert_sound(index.engine)
            index.close()

    assert len(list(deaths(attempt))) > 40


def test_the_command_forgets_and_says_what_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    archive.put("a.mp4", (("yoga", 0.5),))
    uri = archive.put("b.mp4", (("archery", 0.5),))
    job = archive.job_path("texts")
    archive.run(load_job(job))
    engine = open_catalog(archive.catalog, create=True)
    with reading(engine) as connection:
        Shards(open_storage(archive.output), shards_folder(archive.output)).open(
            ShardedPart(part.part_id, part.name, part.sha256, part.rows) for part in list_parts(connection)
        )
    engine.dispose()
    (shard,) = (tmp_path / "cache").rglob("*.arrow")
    copies_folder().mkdir()
    kept, copy = (
        copies_folder() / copy_name(Video(name, "1", 1, 0.0), 0, 5000) for name in (uri.replace("b.mp4", "a.mp4"), uri)
    )
    for file in (kept, copy):
        file.write_bytes(b"a part of it")
    with pytest.raises(ConfigError, match="Did you mean"):
        show_forget("vidoes/b.mp4", job, as_json=False)
    log, report = (tmp_path / "output" / name for name in ("logs/1.jsonl", "reports/latest.html"))
    for path in (log, report):
        path.parent.mkdir()
        path.write_text(f'{{"uri": "{uri}"}}\n')
    show_forget("videos/b.mp4", job, as_json=False)
    assert (log.read_text(), report.exists()) == ("", False)
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{uri} is forgotten. parts written anew without it: 1; files deleted: 1; lines taken out of logs: 1"
    assert "the next run finds it again" in second
    assert not shard.exists()
    assert (kept.exists(), copy.exists()) == (True, False)
    assert show_check(job, deep=True, repair=False, as_json=False) == 0
    assert archive.run(load_job(job)).videos["indexed"] == 1  # as it was said
