"""What `indexer search` prints, exports and ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.errors import ConfigError, OutputError, QueryError
from indexer.recipe import make_recipe
from indexer.records import Failure
from indexer.search import Moment
from indexer.search_view import show_search, start_timecodes
from tests.archives import Archive
from tests.test_search import indexed, store
from tests.test_search_export import answer


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Two indexed videos with three moments of yoga, and one that failed."""
    archive = Archive(tmp_path)
    job = load_job(archive.write_job())
    engine = open_catalog(job.output.catalog, create=True)
    none: dict[str, float] = {}
    second = indexed("b\n.mp4", {"yoga": 0.7}, segment_ms=1000)
    failed = Failure(indexed("c.mp4").video, "E_CORRUPT", "cut")
    store(
        engine, make_recipe(job), indexed("a.mp4", {"yoga": 0.9}, none, none, {"yoga": 0.5}, segment_ms=1000), second, failed
    )
    engine.dispose()
    monkeypatch.chdir(tmp_path)
    return archive


def show(archive: Archive, words: str, **options: Any) -> int:
    settings: dict[str, Any] = {"min_score": 0.0, "under": None, "sort": "best", "semantic": None, "limit": None}
    return show_search(
        words, archive.job_path, **settings | {"export": None, "output": None, "force": False, "as_json": False} | options
    )


def test_a_table_for_people(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, "yoga", limit=2) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["from", "to", "score", "label", "video"],
        ["00:00:00", "00:00:01", "0.90", "yoga", "/archive/a.mp4"],
        ["00:00:00", "00:00:01", "0.70", "yoga", "/archive/b\\n.mp4"],
    ]
    first, second = err.splitlines()
    assert first.startswith("3 moments of 'yoga', best 2 shown; ")
    assert second == "2 of 3 videos are indexed, 1 failed"


def test_what_was_searched_is_said(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, "surfer riding a bike") == 0
    assert capsys.readouterr().err.startswith("0 moments of 'riding a bike' (perhaps also meant: 'surfing water'); ")


def test_words_that_mean_nothing_end_with_2_and_candidates(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, "archerry") == 2
    assert show(archive, "xqzzk near:5s yoga") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[::2] == [
        "no label is called 'archerry'; nearest: 'archery'",
        "no label is called 'xqzzk', nor anything like it; commonest in this index: 'yoga'",
    ]


def test_json_has_the_totals(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, "yoga", limit=1, as_json=True) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert (len(document["moments"]), document["total"]) == (1, 3)
    assert document["coverage"] == {"videos": 3, "indexed": 2, "failed": 1, "pending": 0, "skipped": 0}
    assert show(archive, "archerry", as_json=True) == 2
    assert json.loads(capsys.readouterr().out)["unknown"] == "archerry"


def test_an_export_goes_to_stdout_or_to_a_new_file(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, "yoga", export="csv") == 0
    table = capsys.readouterr().out
    assert table.splitlines()[1] == '"/archive/a.mp4","yoga",0.0,1.0,0.9,0.9,1'
    assert len(table.splitlines()) == 5  # one name has a line of its own in it

    show(archive, "yoga", output=Path("moments.edl"))
    assert Path("moments.edl").read_text().startswith("TITLE: yoga\nFCM: NON-DROP FRAME\n\n001  A ")
    with pytest.raises(ConfigError, match=r"moments.edl exists; choose another name, or replace it with --force"):
        show(archive, "yoga", output=Path("moments.edl"))
    show(archive, "yoga score:>0.6", export="m3u", output=Path("moments.edl"), force=True)
    assert Path("moments.edl").read_text().startswith("#EXTM3U\n#EXTINF:1,yoga 0.90 - a.mp4\n")
    with pytest.raises(OutputError, match=r"none/x\.csv: cannot be written: No such file or directory"):
        show(archive, "yoga", output=Path("none/x.csv"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"export": "xls"}, "--export: choose one of csv, json, m3u, edl, otio"),
        ({"output": Path("moments")}, "--export: choose one of csv, json, m3u, edl, otio"),
        ({"export": "csv", "as_json": True}, "or --json, not both"),
        ({"export": "edl", "limit": 1000}, "an EDL holds 999 events: give --limit 999, or less"),
        ({"under": "/archive/\udce9"}, r"^under: /archive/\\udce9 is not UTF-8; give the folder above it"),
    ],
)
def test_options_that_cannot_be_followed(archive: Archive, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        show(archive, "yoga", **options)


def test_no_index_no_search(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write_job()
    with pytest.raises(ConfigError, match=r"there is no index yet: .* First: indexer run"):
        show(archive, "yoga")


def test_search_as_a_command(archive: Archive) -> None:
    found = archive.command("search", "yoga", "--job", "job.yaml", "--sort", "video", "--under", "/archive/a", "--json")
    assert [m["start_seconds"] for m in json.loads(found.stdout)["moments"]] == [0.0, 3.0]
    wrong = archive.command("search", "yoga score:>2", "--job", "job.yaml")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines()[1:] == ["  yoga score:>2", "              ^"]
    with pytest.raises(QueryError):
        show(archive, "yoga score:>2")


@pytest.mark.parametrize(("name", "said"), [("tape.mov", "10:00:00:00"), ("tape.mxf", "10:00:00:00"), ("tape.mkv", None)])
def test_an_edl_counts_from_the_timecode_that_a_file_begins_with(tmp_path: Path, name: str, said: str | None) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video" if name.endswith("mxf") else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        if said:
            container.metadata["timecode"] = said
        container.mux(stream.encode(av.VideoFrame(320, 240, "yuv420p")))
        container.mux(stream.encode(None))
    found = answer(Moment(str(path), "yoga", 10.0, 20.0, 0.9, 0.9, 1), Moment("/is/gone.mov", "yoga", 0.0, 1.0, 0.9, 0.9, 1))
    assert start_timecodes("edl", found) == ({str(path): said} if said else {})
    assert start_timecodes("csv", found) == {}
