"""`indexer check`: each kind of damage, done for real, is found, named and repaired; a sound index is sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.catalog.audit import OneResult
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.config import load_job
from indexer.errors import ConfigError, RunHeld
from indexer.records import IndexedRange
from indexer.upkeep.census import fingerprints
from indexer.upkeep.findings import CURES
from indexer.upkeep.repair import repair
from indexer.upkeep_view import show_check
from indexer.write.footer import Footer
from indexer.write.parquet import write_table
from indexer.write.staging import Staging
from tests.catalogs import RECIPES, failed, indexed
from tests.dump import assert_sound
from tests.indexes import Index, three_runs
from tests.s3 import S3Place
from tests.synthetic import TextArchive


@pytest.fixture
def index(catalog_url: str, tmp_path: Path) -> Iterator[Index]:
    index = Index(catalog_url, str(tmp_path / "output"))
    yield index
    index.close()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def rewrite_part(index: Index, name: str, change: Callable[[Any], Any]) -> None:
    """Another table under the same name, of which the catalog has the right size and sha256."""
    table = change(pq.read_table(index.path(name)))
    index.path(name).unlink()
    part = write_table(table, index.storage, name)
    index.sql(f"UPDATE part SET bytes = {part.size_bytes}, sha256 = '{part.sha256}' WHERE name = '{name}'")


def test_a_sound_index_is_sound(index: Index) -> None:
    three_runs(index)
    index.run(indexed("a", "1", ("yoga", 0.8)), failed("f"), recipe="B")
    index.run(failed("d", "2"), gone=["e"])
    assert index.findings(deep=False) == []
    assert index.findings(deep=True) == []


DAMAGE: dict[str, Callable[[Index, str], None]] = {
    "part_missing": lambda index, name: index.path(name).unlink(),
    "part_size": lambda index, name: cut(index.path(name)),
    "part_damaged": lambda index, name: flip(index.path(name), -7),  # the length of the footer
}


@pytest.mark.parametrize("code", DAMAGE)
def test_a_part_that_is_not_as_it_was_is_named_and_its_videos_are_done_again(index: Index, code: str) -> None:
    _, name, _ = three_runs(index)
    DAMAGE[code](index, name)
    (finding,) = index.findings(deep=False)
    assert (finding.code, finding.subject) == (code, name)
    assert [one.uri for one in finding.damaged] == ["/archive/b", "/archive/c"]
    assert index.codes(deep=True) == [(code, name)]
    repaired(index, ["/archive/b", "/archive/c"])


def repaired(index: Index, uris: list[str]) -> None:
    """Repair, and look at what became of it."""
    before = {result["uri"]: result for result in index.dump()}
    with index.lease() as lease:
        assert repair(index.engine, lease.token, index.findings(), force=True) == uris
    after = {result["uri"]: result for result in index.dump()}
    for uri, result in after.items():
        if uri in uris:
            assert (result["state"], result["rows"], result["segments"]) == ("pending", [], 0)
        else:
            assert result == before[uri]
    assert_sound(index.engine)
    assert index.codes() == []


def test_a_flipped_byte_among_the_rows_is_found_by_looking_deep(index: Index) -> None:
    name, _, _ = three_runs(index)
    flip(index.path(name), 10)
    assert index.codes(deep=False) == []
    assert index.codes() == [("part_damaged", name)]
    repaired(index, ["/archive/a"])  # b is live in another part


@pytest.mark.parametrize(
    ("statement", "code", "uris", "shallow"),
    [
        ("DELETE FROM hit WHERE video_id = C AND start_ms = 0", "video_hits", ["/archive/c"], True),
        ("UPDATE hit SET score = score + 1 WHERE video_id = C AND start_ms = 0", "video_hits", ["/archive/c"], False),
        ("UPDATE hit SET end_ms = 9999 WHERE video_id = C AND start_ms = 0", "video_hits", ["/archive/c"], False),
        ("UPDATE result SET segments = 7 WHERE video_id = C", "video_rows", ["/archive/c"], True),
        ("UPDATE result SET clips = 7 WHERE video_id = C", "video_rows", ["/archive/c"], False),
        ("UPDATE result SET part_id = 1 WHERE video_id = C", "video_rows", ["/archive/c"], True),
        ("UPDATE result SET state = 'failed' WHERE video_id = C", "result_state", ["/archive/c"], True),
        ("UPDATE video SET fingerprint = 'x' WHERE id = C", "result_state", ["/archive/c"], True),
        ("UPDATE hit SET video_id = 77 WHERE video_id = C", "stray_hits", ["/archive/c"], True),
        ("UPDATE hit SET recipe_id = 7 WHERE video_id = C", "stray_hits", ["/archive/c"], True),
        ("UPDATE label_stat SET n = n + 1 WHERE label_id = 3 AND bucket = 9", "label_counts", [], True),
        ("DELETE FROM label_stat WHERE label_id = 1", "label_counts", [], True),
        ("UPDATE part SET state = 'retired' WHERE id = 2", "part_state", [], True),
    ],
)
def test_a_catalog_that_was_tampered_with_is_found_and_put_right(
    index: Index, statement: str, code: str, uris: list[str], shallow: bool
) -> None:
    three_runs(index)
    index.sql(statement.replace(" C", " (SELECT id FROM video WHERE uri = '/archive/c')"))
    assert code in [found for found, _ in index.codes()]
    assert (code in [found for found, _ in index.codes(deep=False)]) == shallow
    with index.lease() as lease:
        assert repair(index.engine, lease.token, index.findings(), force=True) == uris
    assert index.codes() == []
    if code != "result_state":
        assert_sound(index.engine)


def test_rows_that_break_a_promise_are_found_by_looking_deep(index: Index) -> None:
    _, name, _ = three_runs(index)
    rewrite_part(index, name, lambda table: table.take([0, 2, 1]))
    (finding,) = index.findings()
    assert (finding.code, finding.message) == (
        "part_damaged",
        "it cannot be read: its rows are not sorted by uri and start_ms",
    )
    rewrite_part(index, name, lambda table: table.take([0, 2, 1]).drop_columns(["clips"]))
    assert [finding.message for finding in index.findings()] == ["it cannot be read: its columns are not those of a part"]


def test_a_part_without_a_video_that_is_live_in_it_is_named(index: Index) -> None:
    _, name, _ = three_runs(index)

    def without_c(table: Any) -> Any:
        footer = Footer.of_metadata(table.schema.metadata)
        fewer = Footer(footer.recipe, footer.run_id, footer.labels, footer.videos[:1])
        return table.slice(0, 1).replace_schema_metadata(fewer.as_metadata())

    rewrite_part(index, name, without_c)
    assert index.codes() == [("part_damaged", name)]
    index.sql(f"UPDATE part SET rows = 1 WHERE name = '{name}'")
    assert index.codes() == [("video_rows", "/archive/c")]


def test_an_unknown_part_is_nothing_wrong_until_it_is_a_day_old(index: Index) -> None:
    three_runs(index)
    name = index.orphan(indexed("a", "1", ("yoga", 0.5)))
    (index.path(name).parent / "notes.txt").write_text("of somebody else")
    assert [(finding.code, finding.is_fault) for finding in index.findings()] == [("orphan_new", False)]
    os.utime(index.path(name), (time.time() - 90_000,) * 2)
    assert index.codes() == [("orphan", name)]
    with index.lease() as lease:
        assert repair(index.engine, lease.token, index.findings(), force=True) == []
    assert index.codes() == [("orphan", name)]  # to be swept, not repaired


def test_no_file_has_a_video_that_the_catalog_does_not_know(index: Index) -> None:
    first, second, _ = three_runs(index)
    index.run(gone=["c"])
    assert index.findings() == []
    orphan = index.orphan(*[indexed(f"z{n:02}", "1", ("yoga", 0.5)) for n in range(12)])
    Staging(index.storage, RECIPES["A"], 1).save(IndexedRange((0, 1), indexed("y", "1", ("yoga", 0.1))))
    (staged,) = [name for name in index.files() if name.startswith("staging/")]
    index.sql("DELETE FROM result WHERE video_id IN (SELECT id FROM video WHERE uri = '/archive/c')")
    index.sql("DELETE FROM video WHERE uri = '/archive/c'")  # its rows are dead, and still in the second part
    said = "it has rows of videos that the catalog does not know: /archive/"
    ten = ", /archive/".join(f"z{n:02}" for n in range(10))
    assert [(one.subject, one.message) for one in index.findings() if one.code == "unknown_video"] == [
        (orphan, f"{said}{ten} and 2 more"),
        (second, f"{said}c"),
        (staged, f"{said}y"),
    ]
    assert index.codes(deep=False) == []
    index.path(orphan).write_bytes(b"damaged")
    index.path(first).write_bytes(b"damaged")
    codes = [(one.code, one.subject) for one in index.findings() if one.code.startswith("part_")]
    assert codes == [("part_size", first), ("part_unread", orphan)]


@pytest.mark.parametrize(("runs", "lost"), [(1, 1), (3, 2), (3, 3)])
def test_an_output_that_is_not_mounted_is_no_reason_to_do_all_again(index: Index, runs: int, lost: int) -> None:
    names = [*index.run(indexed("a", "1", ("yoga", 0.9)))] if runs == 1 else three_runs(index)
    for name in names[:lost]:
        index.path(name).unlink()
    before = index.dump()
    with (
        index.lease() as lease,
        pytest.raises(ConfigError, match=f"^{lost} of {runs} parts are not there: nothing was changed"),
    ):
        repair(index.engine, lease.token, index.findings(), force=False)
    assert index.dump() == before
    with index.lease() as lease:
        repair(index.engine, lease.token, index.findings(), force=True)
    assert index.codes() == []


def test_an_index_in_a_bucket_is_checked_too(s3: S3Place, tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    first, _, _ = three_runs(index)
    assert index.codes() == []
    index.storage.delete(first)
    (finding,) = index.findings()
    assert (finding.code, finding.damaged) == ("part_missing", (OneResult("/archive/a", 1),))
    index.close()


@given(st.permutations(range(5)), st.integers(0, 3), st.integers(1, 1 << 30))
def test_sums_of_fingerprints_do_not_depend_on_the_order_and_do_on_every_number(
    order: list[int], column: int, by: int
) -> None:
    columns = [np.arange(5) * 7 + number for number in range(4)]
    total = fingerprints(*columns).sum()
    assert fingerprints(*[numbers[order] for numbers in columns]).sum() == total
    columns[column] = columns[column] + np.array([0, 0, by, 0, 0])
    assert fingerprints(*columns).sum() != total


def test_every_code_has_a_cure() -> None:
    folder = Path(__file__).parents[1] / "indexer" / "upkeep"
    source = "".join((folder / name).read_text() for name in ("check.py", "strangers.py"))
    assert all(f'"{code}"' in source for code in CURES)


# The command


@pytest.fixture
def archive(tmp_path: Path) -> TextArchive:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    for name in ("a.mp4", "b.mp4"):
        archive.put(name, (("yoga", 0.5), ("archery", 0.25)))
        archive.run(archive.job("texts"))
    return archive


def test_what_check_repairs_the_next_run_does_again(archive: TextArchive, capsys: pytest.CaptureFixture[str]) -> None:
    job = archive.job_path("texts")
    whole = archive.dump()
    assert show_check(job, deep=True, repair=False, as_json=False) == 0
    assert capsys.readouterr() == ("", "sound\n")
    min((archive.folder / "output" / "parts").iterdir()).unlink()
    assert show_check(job, deep=False, repair=False, as_json=True) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["sound"], document["findings"][0]["code"]) == (False, "part_missing")
    assert document["findings"][0]["videos"] == [str(archive.folder / "videos" / "a.mp4")]
    assert show_check(job, deep=False, repair=True, as_json=False) == 4
    assert f"videos to be indexed again: 1. Next: indexer run {job}" in capsys.readouterr().err
    assert show_check(job, deep=False, repair=False, as_json=False) == 0
    assert archive.run(load_job(job)).videos["indexed"] == 1
    assert archive.dump() == whole


def test_check_needs_the_lease_only_to_repair(archive: TextArchive) -> None:
    job = archive.job_path("texts")
    engine = open_catalog(archive.catalog, create=True)
    with acquire(engine, "texts"):
        assert show_check(job, deep=False, repair=False, as_json=False) == 0
        with pytest.raises(RunHeld):
            show_check(job, deep=False, repair=True, as_json=False)
    engine.dispose()


def test_without_a_catalog_there_is_nothing_to_check(tmp_path: Path) -> None:
    job = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db").job_path("texts")
    ended = subprocess.run([sys.executable, "-m", "indexer", "check", str(job)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{tmp_path}/catalog.db does not exist. If it was lost, `indexer rebuild {job}`" in ended.stderr
