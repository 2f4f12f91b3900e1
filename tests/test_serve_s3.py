"""The search page of an archive in S3: players get the videos from where they lie."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import sync_playwright

from indexer.errors import AccessDenied
from indexer.serve.media import check_object
from tests.archives import Archive
from tests.s3 import S3Place
from tests.test_serve import Site, served
from tests.test_serve_browser import serving, wait_for

CHROMIUM = shutil.which("chromium")


@pytest.fixture
def archive(s3: S3Place, tmp_path: Path) -> Archive:
    """Two videos; what the bucket says of their type is of no use."""
    archive = Archive(tmp_path)
    for name in ("a & b#1.mp4", "c.mkv"):
        archive.add(name, frames=250)
        s3.put(f"masters/{name}", (archive.videos / name).read_bytes(), ContentType="text/html")
    archive.settings["source"]["uri"] = f"{s3.uri}/masters"
    assert archive.run().videos["indexed"] == 2
    return archive


def number_of(site: Site, name: str) -> object:
    return next(moment["video_id"] for moment in site.moments() if str(moment["uri"]).endswith(name))


def test_a_player_is_led_to_the_object_for_an_hour(s3: S3Place, archive: Archive) -> None:
    file = (archive.videos / "a & b#1.mp4").read_bytes()
    with served(archive) as site:
        number = number_of(site, "1.mp4")
        answer = site.get(f"/media/{number}", follow_redirects=False)
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        link = answer.headers["location"]
        query = parse_qs(urlsplit(link).query)
        assert query.get("X-Amz-Expires") == ["3600"]
        with urlopen(Request(link, headers={"Range": "bytes=100-199"})) as part:
            assert (part.status, part.read(), part.headers["content-type"]) == (206, file[100:200], "video/mp4")

        page = site.get(f"/video/{number}")
        assert f'src="/media/{number}#t=0"' in page.text
        origin = re.escape(s3.proxy.url)
        assert re.search(f"default-src 'self';.*; media-src 'self' {origin}$", page.headers["content-security-policy"])
        for other in (site.get("/"), site.get(f"/video/{number_of(site, 'c.mkv')}")):
            assert "media-src" not in other.headers["content-security-policy"]
        assert "X-Amz" not in page.text + site.get("/api/search", params={"q": site.query}).text


def test_an_object_that_was_replaced_or_deleted_is_not_shown_as_what_was_indexed(s3: S3Place, archive: Archive) -> None:
    with served(archive) as site:
        number = number_of(site, "1.mp4")
        s3.put("masters/a & b#1.mp4", b"another film")
        answer = site.get(f"/media/{number}", follow_redirects=False)
        assert (answer.status_code, "was replaced since it was indexed" in answer.text) == (404, True)
        s3.delete("masters/a & b#1.mp4")
        answer = site.get(f"/media/{number}", follow_redirects=False)
        assert (answer.status_code, "disappeared" in answer.text) == (404, True)


def test_only_objects_of_the_source_are_linked(s3: S3Place) -> None:
    check_object("s3://b/masters", "s3://b/masters/2019/a.mp4", owner="s3://b/")
    check_object("list.csv", "s3://elsewhere/a.mp4", owner="list.csv")
    for source, uri in (
        ("s3://b/masters", "s3://b/masters-2/a.mp4"),
        ("s3://b/masters", "s3://c/a.mp4"),
        ("/", "s3://b/a.mp4"),
    ):
        with pytest.raises(AccessDenied, match="lies outside the source of this job"):
            check_object(source, uri, owner="s3://b")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page was not seen in a browser")
def test_a_browser_plays_it_from_the_moment_on(archive: Archive) -> None:
    with served(archive) as site:
        number = number_of(site, "1.mp4")
    complaints = []
    with serving(archive) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"{address}/video/{number}?t=7")
        wait_for(page, "document.getElementById('player')?.readyState >= 2")
        assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(7, abs=0.05)
        assert page.evaluate("document.getElementById('player').duration") == pytest.approx(10, abs=0.1)
        assert "small=1" not in page.url
        browser.close()
    assert complaints == []
