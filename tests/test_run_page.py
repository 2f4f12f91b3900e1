"""The HTML page that a run leaves beside its index."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from indexer.config import load_job
from indexer.observe.pace import POINTS, Pace
from indexer.observe.page import RunPage
from indexer.records import IndexedVideo, MediaInfo, Video
from indexer.report import Tally
from tests.archives import Archive

HOSTILE = "<script>alert(1)<&.mp4"


def test_a_run_that_did_something_leaves_a_page_that_is_escaped_and_whole(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    archive.add("long.mp4", frames=150)
    (archive.videos / HOSTILE).write_text("no video")
    reports = tmp_path / "index" / "reports"
    reports.mkdir(parents=True)
    for number in range(100, 140):  # of an index that was here before
        (reports / f"run-{number}.html").touch()
        os.utime(reports / f"run-{number}.html", (number, number))
    done = archive.command("run", str(archive.write_job()), "--local")
    assert done.returncode == 3, done.stderr
    kept = ["latest.html", "run-1.html", *(f"run-{number}.html" for number in range(111, 140))]
    assert sorted(path.name for path in reports.iterdir()) == kept
    page = (reports / "latest.html").read_text()
    assert page == (reports / "run-1.html").read_text()
    assert "<h1>test: run 1, partial</h1>" in page
    assert "<dt>indexed</dt><dd>2</dd>" in page
    assert "<td>E_NOT_MEDIA</td>" in page
    assert "&lt;script&gt;alert(1)&lt;&amp;.mp4" in page
    assert "<script" not in page
    assert re.search(r'<title id="pace">00:00:08 of video finished between (\d\d:\d\d:\d\d) and \1?[\d:]+ UTC</title>', page)
    assert re.findall(r'text-anchor="end">([^<]*)', page) == ["00:00:00", "00:00:04", "00:00:08"]
    assert len(re.findall(r'text-anchor="middle">\d\d:\d\d:\d\d<', page)) == 3
    labels = re.findall(r'<td class="n">(\d+)</td><td><meter', page)
    assert sum(map(int, labels)) == 8  # segments
    rows = re.findall(r'<td>([^<]*)</td><td class="n">(\d+\.\d)</td><td class="n">([\d:]*)</td>', page)
    assert {Path(uri).name: length for uri, _, length in rows} == {"a.mp4": "00:00:02", "long.mp4": "00:00:06"}
    assert "http" not in page.replace("http-equiv", "")


def test_a_run_with_nothing_to_do_leaves_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    done = archive.command("run", str(archive.write_job()), "--local")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "index" / "reports").exists()


def test_the_slowest_videos_are_those_that_took_longest_to_decode(tmp_path: Path) -> None:
    """Ten of them, slowest first, however long they are."""
    page = RunPage(load_job(Archive(tmp_path).write_job()), print)
    for number in range(12):
        video = Video(f"/v/{number}.mp4", "1", 1, 0.0)
        page.outcome(IndexedVideo(video, MediaInfo(0, 100.0 - number, 320, 240, "h264", 25.0), (), (), float(number)))
    page.finished(Tally(run_id=1), "complete")
    text = (tmp_path / "index" / "reports" / "run-1.html").read_text()
    assert re.findall(r"<td>/v/(\d+)\.mp4</td>", text) == [str(number) for number in range(11, 1, -1)]


def test_the_line_of_a_long_run_keeps_its_shape_and_says_what_its_axes_are() -> None:
    pace = Pace()
    for second in range(36_000):
        pace.note(float(second), 2.0 * second)
    pace.note(36_000.0, 72_000.0, last=True)
    chart = pace.drawn(datetime(2026, 11, 24, 11, 15, tzinfo=UTC))
    assert chart is not None
    points = [tuple(map(float, point.split(","))) for point in chart.points.split()]
    assert POINTS / 2 <= len(points) <= POINTS
    assert (points[0], points[-1]) == ((0.0, 120.0), (600.0, 0.0))
    assert all(abs(x / 5 + y - 120) < 0.2 for x, y in points)
    assert chart.times == ((0, "01:15"), (300, "06:15"), (600, "11:15"))
    assert chart.lengths == ((120, "00:00:00"), (60, "10:00:00"), (0, "20:00:00"))
    assert chart.sentence == "20:00:00 of video finished between 01:15 and 11:15 UTC"


def test_a_run_that_finished_no_video_has_no_line() -> None:
    pace = Pace()
    pace.note(10.0, 0.0, last=True)
    assert pace.drawn(datetime(2026, 11, 24, tzinfo=UTC)) is None
