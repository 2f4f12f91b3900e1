"""Runs from the job file to the committed index: first, again, after changes, with broken files, killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer import pipeline
from indexer.config import load_job
from indexer.errors import SourceError, WeightsError
from indexer.execute import make_executor
from indexer.records import Failure, IndexedVideo
from indexer.report import Tally
from indexer.session import parse_deadline
from tests.archives import Archive, Heard
from tests.videos import index_first, write_sound


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    archive.add("b.mkv", first=50)
    archive.add("deep/c.mp4", first=90, frames=30)
    return archive


def rows(archive: Archive) -> dict[str, int]:
    """Name of each live video -> its segments."""
    return {Path(result["uri"]).name: result["segments"] for result in archive.dump() if result["rows"]}


def test_a_first_run_indexes_everything(archive: Archive) -> None:
    heard = archive.run()
    assert heard.ended == "complete"
    assert heard.videos == {"found": 3, "indexed": 3, "unchanged": 0, "failed": 0, "skipped": 0, "gone": 0, "left": 0}
    assert rows(archive) == {"a.mp4": 2, "b.mkv": 2, "c.mp4": 2}
    assert len(archive.parts) == 1
    assert heard.tally is not None
    assert 0 < heard.tally.startup_seconds < heard.tally.wall_seconds
    assert min(outcome.decode_seconds for outcome in heard.outcomes if isinstance(outcome, IndexedVideo)) > 0
    assert 0 < heard.tally.to_do_bytes == heard.tally.finished_bytes


def test_a_second_run_does_nothing_and_starts_nothing(archive: Archive) -> None:
    archive.run()
    parts, dump = archive.parts, archive.dump()
    code = "import sys, runpy; sys.argv[0] = 'indexer'\ntry: runpy.run_module('indexer')\nfinally: print(sorted({'torch', 'ray', 'av'} & set(sys.modules)), file=sys.stderr)"  # noqa: E501
    again = subprocess.run(
        [sys.executable, "-c", code, "run", str(archive.job_path)], capture_output=True, text=True, timeout=120
    )
    assert again.stderr.splitlines()[-1] == "[]"
    assert "3  unchanged" in again.stderr
    assert (archive.parts, archive.dump()) == (parts, dump)


def test_new_changed_and_deleted_videos_are_followed(archive: Archive) -> None:
    archive.run()
    archive.add("a.mp4", first=7, frames=80)
    archive.add("new.mp4", first=20)
    (archive.videos / "b.mkv").unlink()
    heard = archive.run()
    assert heard.videos == {"found": 3, "indexed": 2, "unchanged": 1, "failed": 0, "skipped": 0, "gone": 1, "left": 0}
    assert rows(archive) == {"a.mp4": 4, "c.mp4": 2, "new.mp4": 2}
    archive.add("b.mkv", first=50)
    assert archive.run().videos["indexed"] == 1
    assert rows(archive)["b.mkv"] == 2


def test_a_change_of_sampling_is_work_and_a_comment_is_not(archive: Archive) -> None:
    archive.run()
    archive.job_path.write_text("# a comment\n" + archive.job_path.read_text())
    assert archive.run().videos["unchanged"] == 3
    assert archive.run(sampling={"segment": "500ms"}).videos["indexed"] == 3


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(archive: Archive) -> None:
    job = str(archive.write_job())
    before = everything(archive.folder)
    first = archive.command("plan", job)
    assert everything(archive.folder) == before
    table = dict(line.split() for line in first.stdout.splitlines()[1:9])
    assert table == {"found": "3", "new": "3"} | dict.fromkeys(
        ("changed", "retry", "unchanged", "failed", "skipped", "gone"), "0"
    )
    assert "to do: 00:00:05 of video, about 6 segments" in first.stdout
    assert "time: unknown before the first run" in first.stdout

    archive.run()
    archive.add("a.mp4", first=7, frames=80)
    (archive.videos / "b.mkv").unlink()
    (archive.videos / "bad.mp4").write_text("no video")
    before = everything(archive.folder)
    again = json.loads(archive.command("plan", job, "--json").stdout)
    after = everything(archive.folder)
    assert {name: content for name, content in after.items() if "catalog.db-" not in name} == {
        name: content for name, content in before.items() if "catalog.db-" not in name
    }
    assert again["videos"] == {
        "found": 3, "new": 1, "changed": 1, "retry": 0, "unchanged": 1, "failed": 0, "skipped": 0, "gone": 1,
    }  # fmt: skip
    assert again["video_seconds"] == pytest.approx(3.2)


def test_random_weights_are_said_to_mean_nothing(archive: Archive) -> None:
    ended = archive.command("run", str(archive.write_job(source={"exclude": ["b.mkv", "deep/"]})), "--local", "--json")
    first = json.loads(ended.stdout.splitlines()[0])
    assert (first["event"], first["message"]) == (
        "warning",
        "model.weights is random: the labels of this index mean nothing; it is for trials only",
    )


def test_old_results_stay_searchable_until_the_new_ones_are_there(archive: Archive) -> None:
    archive.run()
    label = archive.dump()[0]["rows"][0][2]
    before = {moment["uri"] for moment in archive.search(label)["moments"]}
    assert before
    heard = archive.run(sampling={"segment": "500ms"}, limit=1)
    assert (heard.ended, heard.videos["left"]) == ("stopped", 2)
    assert {moment["uri"] for moment in archive.search(label)["moments"]} >= before - {o.video.uri for o in heard.outcomes}


def test_an_emptied_source_stops_the_run_and_loses_nothing(archive: Archive) -> None:
    archive.run()
    dump = archive.dump()
    archive.videos.rename(archive.folder / "unmounted")
    archive.videos.mkdir()
    with pytest.raises(SourceError, match="The source is empty, but 3 of its videos are known"):
        archive.run()
    assert archive.dump() == dump


@pytest.mark.parametrize("another_folder", [True, False])
def test_a_source_that_is_taken_away_in_mid_run_stops_it_and_no_video_is_gone(archive: Archive, another_folder: bool) -> None:
    away = archive.folder / "unmounted"

    def taken_away() -> bool:
        if not away.exists():
            archive.videos.rename(away)
            if another_folder:
                archive.videos.mkdir()
        return False

    with pytest.raises(SourceError, match="mounted"):
        archive.run(stopped=taken_away)
    if another_folder:
        archive.videos.rmdir()
    away.rename(archive.videos)
    again = archive.run(stopped=lambda: False)
    assert (again.ended, again.videos["skipped"], again.videos["failed"]) == ("complete", 0, 0)
    assert [video["state"] for video in archive.dump()] == ["indexed", "indexed", "indexed"]


def test_more_missing_than_the_limit_stops_the_run(archive: Archive) -> None:
    archive.run()
    (archive.videos / "a.mp4").unlink()
    with pytest.raises(SourceError, match="1 of 3 known videos are no longer in the source"):
        archive.run(source={"missing_limit": 0.2})
    assert archive.run(source={"missing_limit": 0.5}).videos["gone"] == 1


def test_weights_that_are_not_there_stop_before_any_video_is_claimed(archive: Archive) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        archive.run(model={"weights": "none.pth"})
    assert not (archive.folder / "index" / "catalog.db").exists()


def test_weights_that_do_not_fit_stop_before_any_video_is_claimed(archive: Archive) -> None:
    (archive.folder / "bad.pth").write_text("no weights")
    ended = archive.command("run", str(archive.write_job(model={"weights": "bad.pth"})), "--local")
    assert ended.returncode == 15
    assert "bad.pth cannot be loaded as weights" in ended.stderr
    assert archive.dump() == []


BROKEN = {
    "audio.mp4": "no_video",
    "cut.mp4": "E_TRUNCATED",
    "empty.mp4": "E_EMPTY",
    "fifo.mp4": "not_regular",
    "huge.mkv": "E_TOO_BIG",
    "list.mp4": "E_FORMAT_REFUSED",
    "picture.mp4": "still_image",
    "text.mp4": "E_NOT_MEDIA",
    "tail.ts": "indexed",  # a stream claims no length: what is there is all there is
    "tail.mkv": "W_TRUNCATED",
    "most.mp4": "W_TRUNCATED",
    "short.mp4": "E_TRUNCATED",
}


def break_things(archive: Archive) -> None:
    """One file of each kind of bad day, beside the good ones."""
    videos = archive.videos
    good = (videos / "a.mp4").read_bytes()
    write_sound(videos / "audio.mp4")
    (videos / "cut.mp4").write_bytes(good[: len(good) // 2])
    (videos / "empty.mp4").touch()
    os.mkfifo(videos / "fifo.mp4")
    archive.add("huge.mkv", frames=1, width=2000, height=2000, codec="ffv1", pix_fmt="yuv420p")
    (videos / "list.mp4").write_text("#EXTM3U\n#EXTINF:4,\n/etc/passwd\n")
    (videos / "picture.mp4").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (videos / "text.mp4").write_text("my holidays, part 1\n")
    for name, keep in (("tail.ts", 0.7), ("tail.mkv", 0.7)):
        path = archive.add(name, frames=100)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    plain = archive.add("plain.mp4", frames=100)
    for name, keep in (("most.mp4", 0.7), ("short.mp4", 0.2)):
        data = index_first(plain, videos / name).read_bytes()
        first = data.find(b"mdat")
        (videos / name).write_bytes(data[: first + int((len(data) - first) * keep)])
    plain.unlink()


def endings(archive: Archive) -> dict[str, str]:
    """Name -> failure code, skip reason, warning or state."""
    return {
        Path(result["uri"]).name: result["code"]
        or next((w for w in result["warnings"] if w == "W_TRUNCATED"), result["state"])
        for result in archive.dump()
    }


def test_bad_files_cost_themselves_only(archive: Archive) -> None:
    break_things(archive)
    heard = archive.run(decode={"max_pixels": 1_000_000})
    assert heard.ended == "partial"
    listed = {Path(o.video.uri).name: o.code for o in heard.outcomes if isinstance(o, Failure)}
    assert listed == {name: code for name, code in BROKEN.items() if code.startswith("E_")}
    counts = heard.videos
    assert counts == {"found": 15, "indexed": 6, "unchanged": 0, "failed": 6, "skipped": 3, "gone": 0, "left": 0}
    assert {name: code for name, code in endings(archive).items() if name in BROKEN} == {
        name: code for name, code in BROKEN.items() if name != "fifo.mp4"
    }


def test_failed_videos_wait_until_they_change_or_are_retried(archive: Archive) -> None:
    bad = archive.videos / "bad.mp4"
    bad.write_text("no video")
    assert archive.run().videos["failed"] == 1
    heard = archive.run()
    assert (heard.ended, heard.videos["failed"], heard.outcomes) == ("partial", 1, [])
    heard = archive.run(retry_failed=True)
    assert [o.video.uri for o in heard.outcomes] == [str(bad)]
    shutil.copy(archive.videos / "a.mp4", bad)
    assert archive.run().videos == {"found": 4, "indexed": 1, "unchanged": 3, "failed": 0, "skipped": 0, "gone": 0, "left": 0}


def test_files_that_may_still_grow_wait(archive: Archive) -> None:
    old = time.time() - 3600
    os.utime(archive.videos / "a.mp4", (old, old))
    heard = archive.run(source={"min_age": "10m"})
    assert (heard.videos["indexed"], heard.videos["skipped"]) == (1, 2)
    assert heard.tally is not None
    assert heard.tally.skip_reasons == {"too_new": 2}


def test_a_manifest_names_the_videos(archive: Archive) -> None:
    (archive.folder / "list.csv").write_text("title,uri\nfirst,videos/a.mp4\nlost,videos/none.mp4\n")
    heard = archive.run(source={"uri": "list.csv"})
    assert (heard.videos["indexed"], heard.videos["failed"]) == (1, 1)
    assert [o.code for o in heard.outcomes if isinstance(o, Failure)] == ["E_NOT_FOUND"]


def test_a_video_that_a_manifest_still_names_and_is_deleted_fails_and_is_found_no_more(archive: Archive) -> None:
    (archive.folder / "list.csv").write_text("uri\nvideos/a.mp4\nvideos/b.mkv\n")
    archive.run(source={"uri": "list.csv"})
    kept = archive.videos / "kept.mp4"
    (archive.videos / "a.mp4").rename(kept)
    for _ in range(2):
        heard = archive.run()
        assert (heard.ended, heard.videos["failed"], heard.videos["unchanged"]) == ("partial", 1, 1)
        assert {Path(result["uri"]).name: (result["state"], result["code"]) for result in archive.dump()} == {
            "a.mp4": ("failed", "E_NOT_FOUND"),
            "b.mkv": ("indexed", None),
        }
        assert rows(archive) == {"b.mkv": 2}
    kept.rename(archive.videos / "a.mp4")
    assert archive.run().videos["indexed"] == 1
    assert rows(archive) == {"a.mp4": 2, "b.mkv": 2}
    (archive.videos / "a.mp4").unlink()
    with pytest.raises(SourceError, match="1 of 2 known videos are no longer in the source"):
        archive.run(source={"missing_limit": 0.2})
    assert rows(archive) == {"a.mp4": 2, "b.mkv": 2}


def test_a_source_without_a_single_video_is_complete_and_says_why(archive: Archive) -> None:
    heard = archive.run(source={"include": ["**/*.avi"]})
    assert (heard.ended, heard.videos["found"]) == ("complete", 0)
    assert heard.warnings == [f"{archive.videos}: of the 3 files there, source.include and source.exclude leave none"]
    (archive.folder / "list.csv").write_text("uri\n")
    heard = archive.run(source={"uri": "list.csv"})
    assert heard.warnings == [f"{archive.folder}/list.csv: of what it names, source.include and source.exclude leave nothing"]


def test_what_cannot_be_looked_at_keeps_its_results_and_is_among_the_failures(archive: Archive) -> None:
    (archive.folder / "list.csv").write_text("uri\nvideos/a.mp4\nvideos/deep/c.mp4\n")
    archive.run(source={"uri": "list.csv"})
    (archive.videos / "deep").rename(archive.folder / "away")
    (archive.videos / "deep").symlink_to("deep")
    heard = archive.run()
    assert (heard.ended, heard.videos["failed"]) == ("partial", 1)
    assert rows(archive) == {"a.mp4": 2, "c.mp4": 2}
    said = archive.command("failures", str(archive.job_path)).stdout
    assert f"{archive.videos}/deep/c.mp4\n  E_ACCESS: cannot be seen: Too many levels of symbolic links\n" in said
    assert said.endswith("1 could not be looked at in the last run; what the index has of it stays as it was.\n")
    (archive.videos / "deep").unlink()
    (archive.folder / "away").rename(archive.videos / "deep")
    assert archive.run().ended == "complete"
    assert archive.command("failures", str(archive.job_path), "--json").stdout == "[]\n"


def test_settings_that_nothing_is_indexed_with_have_no_failures_yet(archive: Archive) -> None:
    archive.run()
    job = archive.write_job(sampling={"segment": "7s"})
    said = archive.command("failures", str(job)).stdout
    assert said.replace("\n", " ").strip() == f"Nothing is indexed with the settings of {job} yet. Next: indexer run {job}"
    assert archive.command("failures", str(job), "--json").stdout == "[]\n"


KILLER = Path(__file__).parent / "kill_at.py"


@pytest.mark.parametrize("point", ["before_rename", "after_rename", "in_transaction", "before_commit", "after_commit"])
def test_a_run_killed_at_any_point_goes_on_to_the_same_index(archive: Archive, tmp_path: Path, point: str) -> None:
    archive.run()
    undisturbed = archive.dump()
    shutil.rmtree(archive.folder / "index")
    killed = archive.command("run", str(archive.job_path), "--local", script=KILLER, KILL_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    live = [result for result in archive.dump() if result["rows"]]
    assert len(live) == (3 if point == "after_commit" else 0)  # all of the part, or none of it
    assert archive.run().ended == "complete"
    assert archive.dump() == undisturbed


class Breaks(Heard):
    """A reporter with a bug that shows when the first video is finished."""

    def progress(self, tally: Tally) -> None:
        if tally.finished:
            raise ZeroDivisionError


def test_a_bug_in_the_middle_of_a_run_loses_nothing_that_was_finished(archive: Archive) -> None:
    job = load_job(archive.write_job())
    with pytest.raises(ZeroDivisionError):
        pipeline.run(job, lambda: make_executor(job, local=True), Breaks(), pipeline.Options(), stopped=lambda: False)
    assert len(rows(archive)) == 1
    assert archive.run().videos == {
        "found": 3, "indexed": 2, "unchanged": 1, "failed": 0, "skipped": 0, "gone": 0, "left": 0,
    }  # fmt: skip


def test_ctrl_c_saves_what_is_finished_and_the_next_run_goes_on(archive: Archive) -> None:
    for number in range(6):
        archive.add(f"more{number}.mp4", first=number, frames=100)
    archive.write_job(sampling={"segment": "200ms"})
    terminal, end = os.openpty()
    run = subprocess.Popen([sys.executable, "-m", "indexer", "run", str(archive.job_path), "--local"], stderr=end)
    os.close(end)
    said = ""
    asked = None
    with suppress(OSError):  # when the other end is closed
        while heard := os.read(terminal, 10_000):
            said += heard.decode()
            if asked is None and re.search(r"[1-9]\d* of 9 videos", said):
                asked = time.monotonic()
                run.send_signal(signal.SIGINT)
    os.close(terminal)
    assert asked is not None, said
    assert run.wait(timeout=30) == 130
    assert time.monotonic() - asked < 10
    assert "stopped early" in said
    saved = len(rows(archive))
    assert 0 < saved < 9
    after = archive.run()
    assert (after.videos["unchanged"], after.videos["indexed"]) == (saved, 9 - saved)


def test_a_deadline_keeps_its_hour_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        evening = datetime(2026, 10, 24, 22, 0)  # clocks go back at three in the morning, and forward in March
        assert parse_deadline("06:00", evening) == datetime(2026, 10, 25, 5, 0, tzinfo=UTC).timestamp()
        assert parse_deadline("23:00", evening) == datetime(2026, 10, 24, 21, 0, tzinfo=UTC).timestamp()
        evening = datetime(2027, 3, 27, 22, 0)
        assert parse_deadline("06:00", evening) == datetime(2027, 3, 28, 4, 0, tzinfo=UTC).timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_that_may_not_do_everything_says_so(archive: Archive) -> None:
    job = str(archive.write_job())
    limited = archive.command("run", job, "--local", "--limit", "1")
    assert (limited.returncode, rows(archive)) == (75, {"a.mp4": 2})
    late = archive.command("run", job, "--local", "--deadline", "2020-01-01T06:00")
    assert (late.returncode, len(rows(archive))) == (75, 1)
    assert "2  left for the next run" in late.stderr
    assert archive.command("run", job, "--local").returncode == 0
    assert len(rows(archive)) == 3
