"""The HTML page that a run leaves beside its index."""

from pathlib import Path

from tests.archives import Archive

HOSTILE = "<script>alert(1)<&.mp4"


def test_a_run_that_did_something_leaves_a_page_that_is_escaped_and_whole(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    (archive.videos / HOSTILE).write_text("no video")
    done = archive.command("run", str(archive.write_job()), "--local")
    assert done.returncode == 3, done.stderr
    reports = tmp_path / "index" / "reports"
    assert sorted(path.name for path in reports.iterdir()) == ["latest.html", "run-1.html"]
    page = (reports / "latest.html").read_text()
    assert page == (reports / "run-1.html").read_text()
    assert "<h1>test: run 1, partial</h1>" in page
    assert "<dt>indexed</dt><dd>1</dd>" in page
    assert "<td>E_NOT_MEDIA</td>" in page
    assert "&lt;script&gt;alert(1)&lt;&amp;.mp4" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_run_with_nothing_to_do_leaves_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    done = archive.command("run", str(archive.write_job()), "--local")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "index" / "reports").exists()
