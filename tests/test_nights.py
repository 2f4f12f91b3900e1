"""Ten nights of one archive: whatever happens, each morning the index says what an index made anew would say."""

import shutil
from pathlib import Path
from typing import Any

from tests.archives import Archive, last_event

KILLED = Path(__file__).with_name("kill_at.py")


def live(archive: Archive) -> list[Any]:
    """The index without what is gone, which an index made anew never knew."""
    return [row for row in archive.dump() if row["state"] != "gone"]


def anew(archive: Archive) -> list[Any]:
    """What an index of the same files says that is made from nothing."""
    archive.run(output={"uri": "anew"})
    dump = archive.dump()
    shutil.rmtree(archive.folder / "anew")
    archive.write_job(output={"uri": "index"})
    return dump


def counts(**videos: int) -> dict[str, int]:
    return dict.fromkeys(("found", "indexed", "unchanged", "failed", "skipped", "gone", "left"), 0) | videos


def test_ten_nights(tmp_path: Path) -> None:
    """Every video lasts one second, so the seconds that a run decodes count the videos that it decodes."""
    archive = Archive(tmp_path)
    run = ("run", str(archive.job_path), "--local", "--json")

    def add(name: str, first: int) -> None:
        archive.add(name, first=first, frames=25, width=64, height=48)

    def night(**videos: int) -> float:
        """One undisturbed run: the seconds of video that it decoded."""
        heard = archive.run()
        assert heard.videos == counts(**videos)
        assert heard.tally is not None
        assert heard.ended == ("partial" if videos.get("failed") else "complete")
        assert live(archive) == anew(archive)
        return heard.tally.decoded_seconds

    # 1: the first one
    for number, name in enumerate(("a.mp4", "b.mp4", "2019/c.mp4")):
        add(name, 10 * number)
    assert night(found=3, indexed=3) == 3

    # 2: nothing is new
    parts = archive.parts
    assert night(found=3, unchanged=3) == 0
    assert archive.parts == parts

    # 3: one more, and one was edited
    add("d.mp4", 30)
    add("a.mp4", 40)
    assert night(found=4, indexed=2, unchanged=2) == 2

    # 4: one was deleted, one renamed
    (archive.videos / "b.mp4").unlink()
    (archive.videos / "d.mp4").rename(archive.videos / "2019" / "d.mp4")
    assert night(found=3, indexed=1, unchanged=2, gone=2) == 1

    # 5: one that is no video, one that is empty
    (archive.videos / "bad.mp4").write_text("no video")
    (archive.videos / "empty.mp4").touch()
    assert night(found=5, unchanged=3, failed=2) == 0

    # 6: a run is killed when two new videos are written, and all but visible
    add("e.mp4", 50)
    add("f.mp4", 60)
    before = live(archive)
    assert archive.command(*run, script=KILLED, KILL_AT="before_commit").returncode == -9
    killed = live(archive)
    assert [row for row in killed if row["state"] != "pending"] == before
    assert [(row["uri"], row["rows"]) for row in killed if row["state"] == "pending"] == [
        ("/videos/e.mp4", []), ("/videos/f.mp4", []),
    ]  # fmt: skip

    # 7: the next one goes on; what is known to be broken is not tried again
    assert night(found=7, indexed=2, unchanged=3, failed=2) == 2

    # 8: a second run begins while the first is at work
    add("g.mp4", 70)
    overlapping: list[Any] = []

    def stopped() -> bool:
        if not overlapping:
            overlapping.append(archive.command(*run))
        return False

    heard = archive.run(stopped=stopped)
    assert [(ended.returncode, last_event(ended)["exit_code"]) for ended in overlapping] == [(11, 11)]
    assert heard.videos == counts(found=8, indexed=1, unchanged=5, failed=2)
    assert heard.tally is not None
    assert heard.tally.decoded_seconds == 1
    assert live(archive) == anew(archive)

    # 9: the disk with the videos is not mounted
    before, mounted = live(archive), archive.videos.with_name("elsewhere")
    archive.videos.rename(mounted)
    ended = archive.command(*run)
    assert (ended.returncode, last_event(ended)["exit_code"]) == (10, 10)
    archive.videos.mkdir()  # the empty folder below a mount
    archive.write_job(source={"missing_limit": 0.2})
    assert archive.command(*run).returncode == 10
    archive.videos.rmdir()
    mounted.rename(archive.videos)
    assert live(archive) == before

    # 10: it is back, a broken copy was repaired, and this time Ray does the work
    add("bad.mp4", 80)
    ended = archive.command("run", str(archive.job_path), "--json")
    event = last_event(ended)
    assert (ended.returncode, event["videos"]) == (3, counts(found=8, indexed=1, unchanged=6, failed=1)), ended.stderr
    assert event["decoded_seconds"] == 1
    assert live(archive) == anew(archive)
