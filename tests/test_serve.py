"""The search page, over the real application on a real index: what it says, shows, plays and exports."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from indexer.errors import ConfigError
from indexer.index import current_recipe, index_of
from indexer.search.parse import parse
from indexer.search.query import as_typed, by_label
from indexer.serve.app import make_app
from indexer.serve.archive import Archive as Shown
from indexer.serve.archive import ShownSegment
from indexer.serve.asked import Asked, asked_by
from indexer.serve.chips import chips
from indexer.serve.strip import strip
from tests.archives import Archive, five_videos
from tests.postgres import Postgres


class Site:
    """A page of five videos, one of which is damaged, and what a visitor sees of it."""

    def __init__(self, archive: Archive, client: TestClient) -> None:
        self.archive = archive
        self.get = client.get
        self.labels = [row["label"] for row in client.get("/api/labels").json()]
        self.label = self.labels[0]
        self.query = f'label:"{self.label}"'

    def moments(self, **parameters: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.get("/api/search", params={"q": self.query, **parameters}).json()["moments"]
        return found

    def page(self, address: str, **parameters: str) -> str:
        answer = self.get(address, params=parameters or None)
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def served(archive: Archive) -> Iterator[Site]:
    job, engine = index_of(archive.job_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(archive.folder / "cache"))
        app = make_app(Shown(job, engine, current_recipe(job, engine)), names=["testserver"])
        with TestClient(app) as client:
            yield Site(archive, client)
    engine.dispose()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    archive = five_videos(Archive(tmp_path_factory.mktemp("site")))
    archive.run()
    with served(archive) as site:
        yield site


def links(page: str, pattern: str) -> list[str]:
    """Addresses on a page."""
    return [unescape(link) for link in re.findall(r'(?:href|src|data-preview)="([^"]*)"', page) if re.match(pattern, link)]


def pictures(media: bytes, path: Path) -> tuple[int, int, float]:
    """Width, height and length in seconds."""
    path.write_bytes(media)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert frames[-1].time is not None
        return stream.width, stream.height, frames[-1].time


def test_the_first_page_says_what_there_is_to_be_found(site: Site) -> None:
    page = site.page("/")
    assert "5 of 6 videos are indexed" in page
    assert ">1 failed</a>" in page
    segments = next(row["segments"] for row in site.get("/api/labels").json())
    assert f'<option value="{site.label}">{segments} segments</option>' in page


def test_each_card_has_three_pictures_and_leads_to_its_moment(site: Site) -> None:
    found = site.moments()
    page = site.page("/", q=site.query)
    assert page.count('<li class="card"') == len(found) > 0
    assert f"<b>{len(found)}</b>" in page
    frames = links(page, "/frame/")
    assert len(frames) == 3 * len(found)
    for frame in frames:
        answer = site.get(frame)
        assert (answer.status_code, answer.headers["content-type"], answer.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    first = links(page, "/video/")[0]
    assert first.startswith(f"/video/{found[0]['video_id']}?t={found[0]['start_seconds']:g}&")
    assert Path(str(found[0]["uri"])).name in site.page(first)


def test_a_video_opens_at_the_moment_and_is_sent_in_ranges(site: Site) -> None:
    video_id = next(moment["video_id"] for moment in site.moments() if str(moment["uri"]).endswith("v4.mp4"))
    assert f'src="/media/{video_id}#t=3.5"' in site.page(f"/video/{video_id}", t="3.5")
    file = (site.archive.videos / "v4.mp4").read_bytes()
    whole = site.get(f"/media/{video_id}")
    assert (whole.content, whole.headers["content-type"], whole.headers["accept-ranges"]) == (file, "video/mp4", "bytes")
    some = site.get(f"/media/{video_id}", headers={"range": "bytes=100-199"})
    assert (some.status_code, some.content, some.headers["content-range"]) == (
        206,
        file[100:200],
        f"bytes 100-199/{len(file)}",
    )
    tail = site.get(f"/media/{video_id}", headers={"range": "bytes=-10"})
    assert (tail.status_code, tail.content) == (206, file[-10:])
    assert site.get(f"/media/{video_id}", headers={"range": f"bytes={len(file)}-"}).status_code == 416


def test_a_small_copy_holds_the_moment(site: Site, tmp_path: Path) -> None:
    video_id = next(moment["video_id"] for moment in site.moments() if str(moment["uri"]).endswith("v4.mp4"))
    page = site.page(f"/video/{video_id}", t="7", small="1")
    (src,) = links(page, "/copy/")
    assert src == f"/copy/{video_id}/2000-10400.mp4#t=5"
    assert f'<a href="/video/{video_id}?t=0&amp;n=0&amp;small=1">the part before</a>' in page
    assert "the part after" not in page
    copy = site.get(f"/copy/{video_id}/2000-4000.mp4")
    assert copy.headers["content-type"] == "video/mp4"
    width, height, seconds = pictures(copy.content, tmp_path / "copy.mp4")
    assert (width, height) == (320, 240)
    assert 1.9 <= seconds < 2.0


def test_hits_are_linked_to_those_before_and_after(site: Site) -> None:
    cards = links(site.page("/", q=site.query), "/video/")
    first, second, third = (site.page(card) for card in cards[:3])
    assert 'id="before"' not in first
    assert cards[0] in links(second, "/video/")
    assert cards[2] in links(second, "/video/")
    assert cards[1] in links(third, "/video/")
    assert 'id="after"' not in site.page(cards[-1])


def test_a_video_shows_its_labels_over_time(site: Site) -> None:
    card = links(site.page("/", q=site.query), "/video/")[0]
    page = site.page(card)
    assert re.search(rf'<div class="lane searched">\s*<a class="name" href="[^"]*">{re.escape(site.label)}</a>', page)
    assert page.count('<rect class="analysed" x="0.00" width="1000.00" height="10"/>') == page.count('role="group"') > 0
    (length,) = re.findall(r'data-length="([\d.]+)"', page)
    (hit,) = re.findall(r'<rect class="hit" x="([\d.]+)" width="([\d.]+)"', page)
    begin, end = (1000 * float(str(site.moments()[0][f"{name}_seconds"])) / float(length) for name in ("start", "end"))
    assert [float(place) for place in hit] == pytest.approx([begin, end - begin])


def test_time_that_was_not_analysed_is_hatched(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    archive.run()
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE video SET duration_ms = 8000")  # of which two seconds have results
    with served(archive) as site:
        page = site.page("/video/1")
    assert page.count('<rect class="analysed" x="0.00" width="250.00" height="10"/>') == page.count('role="group"') > 0
    assert '<span class="hatched" aria-hidden="true"></span> 00:00:06 of it was not analysed.' in page


def test_filters_are_kept_in_the_address_and_narrow_the_answer(site: Site) -> None:
    assert site.moments(min_score="0.99") == []
    by_video = [str(moment["uri"]) for moment in site.moments(sort="video")]
    assert by_video == sorted(by_video)
    assert len(site.moments(limit="2")) == 2
    page = site.page("/", q=site.query, min_score="0.99", sort="newest")
    assert '<option value="0.99" selected>at least 0.99</option>' in page
    assert '<option value="newest" selected>' in page
    assert "Nothing of it was seen with these filters" in page
    assert "Nothing of it was seen with these filters" in site.page("/", q=f"{site.query} path:nowhere")
    card = links(site.page("/", q=site.query, min_score="0.001", sort="newest"), "/video/")[0]
    kept = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', site.page(card))
    assert kept == [("min_score", "0.001"), ("sort", "newest")]
    under = f"{site.archive.videos}/v4"
    assert {moment["uri"] for moment in site.moments(under=under)} == {f"{under}.mp4"}
    assert f"in {under} " in site.page("/", q=site.query, under=under)


def test_a_mistake_in_the_query_leaves_the_filters_as_they_are(site: Site) -> None:
    answer = site.get("/", params={"q": "score:no", "min_score": "0.25", "sort": "newest", "under": "/srv/a/"})
    assert (answer.status_code, "This cannot be read" in answer.text) == (400, True)
    assert '<option value="0.25" selected>' in answer.text
    assert '<option value="newest" selected>' in answer.text
    assert '<input type="hidden" name="under" value="/srv/a/">' in answer.text
    assert "in /srv/a/ " in answer.text


def test_more_like_this_finds_other_moments(site: Site) -> None:
    page = site.page("/", q=site.query)
    like = links(page, r"/\?like=")[0]
    found = site.page(like)
    assert "that look like" in found
    assert '<li class="card" id="moment-1">' in found
    assert links(found, r"/video/.*like=")
    first = site.page(f"{like}&limit=1")
    assert re.search(r"More than 1\s+moments\s+that look like", first), (
        first
    )  # they are not counted, nor is it known how many at most


def test_selected_moments_or_all_are_exported(site: Site) -> None:
    found = site.moments()
    assert "Export those selected, or all:" in site.page("/", q=site.query)
    whole = site.get("/export.csv", params={"q": site.query})
    assert whole.headers["content-disposition"] == 'attachment; filename="moments.csv"'
    assert len(whole.text.splitlines()) == 1 + len(found)
    picks = re.findall(r'name="pick" value="([^"]*)"', site.page("/", q=site.query))
    some = site.get("/export.json", params={"q": site.query, "pick": picks[:2]})
    assert [moment["uri"] for moment in json.loads(some.text)["moments"]] == [moment["uri"] for moment in found[:2]]
    lost = site.get("/export.json", params={"q": site.query, "pick": [*picks[:2], "999:0"]})
    assert (lost.status_code, "1 of the 3 selected moments are not found any more" in lost.text) == (400, True)
    assert site.get("/export.edl", params={"q": site.query}).text.startswith("TITLE:")
    assert site.get("/export.doc", params={"q": site.query}).status_code == 404
    assert site.get("/export.csv").status_code == 400


def test_an_export_that_is_cut_is_said_to_be(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    archive.run()
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as catalog, catalog:
        recipe, label, video = catalog.execute("SELECT recipe_id, label_id, video_id FROM hit ORDER BY score DESC").fetchone()
        hits = ((recipe, label, video, 10_000 * n, 10_000 * n + 1000, 4000) for n in range(1, 10_101))
        catalog.executemany("INSERT INTO hit VALUES (?, ?, ?, ?, ?, ?)", hits)
        catalog.execute("INSERT OR REPLACE INTO label_stat VALUES (?, ?, 4, 10100)", (recipe, label))
    with served(archive) as site:
        page = site.page("/", q=site.query)
        assert "Export those selected, or the first 10,000:" in page
        assert ">CSV</button>" in page
        assert ">EDL (first 999)</button>" in page
        assert len(site.get("/export.csv", params={"q": site.query}).text.splitlines()) == 1 + 10_000
        assert "\n999  " in (listed := site.get("/export.edl", params={"q": site.query}).text)
        assert "\n1000  " not in listed


def test_words_that_mean_no_label_offer_those_that_are_near(site: Site) -> None:
    page = site.page("/", q='label:"yogaa"')
    assert "No label is called <b>yogaa</b>" in page
    assert '<a class="chip" href="/?q=label%3A%22yoga%22">yoga</a>' in page
    page = site.page("/", q="qwxzv")
    assert "Seen most often:" in page
    assert re.search(rf'Seen most often:\s*<a class="chip" href="[^"]*">{re.escape(site.label)}</a>', page)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"q": "yoga score:>x"}, "<mark>"),
        ({"q": "yoga", "sort": "worst"}, "allowed: best, newest, video"),
        ({"q": "yoga", "min_score": "7"}, "min_score:"),
        ({"q": "yoga", "limit": "-1"}, "limit:"),
        ({"q": "a" * 1001}, "at most 1000 characters"),
        ({"q": "yo\0ga"}, "this is no character"),
        ({"q": "yoga", "under": "/a\0"}, "under:"),
        ({"like": "7"}, "VIDEO:START-END"),
        ({"like": "999999:0-1000"}, "there is no video 999999"),
    ],
)
def test_what_cannot_be_meant_is_said(site: Site, parameters: dict[str, str], said: str) -> None:
    answer = site.get("/", params=parameters)
    assert answer.status_code == 400
    assert said in unescape(answer.text)
    assert site.get("/api/search", params=parameters).json()["error"]


def test_unknown_numbers_and_times_are_said(site: Site) -> None:
    for path in ("/video/999999", "/media/999999", "/copy/999999/0-1000.mp4", "/video/99999999999999", "/nothing"):
        assert site.get(path).status_code == 404, path
    assert site.get("/video/1", params={"t": "nan"}).status_code == 400
    assert site.get("/video/1", params={"t": "-1"}).status_code == 400
    none = site.get("/frame/999999/0.jpg")
    assert (none.status_code, none.headers["content-type"]) == (404, "image/svg+xml")


def test_the_runs_page_says_what_failed_and_what_to_do(site: Site) -> None:
    page = site.page("/runs")
    assert "5 of 6 videos are indexed" in page
    assert "<td>partial</td>" in page
    assert "bad.mp4</b> is not a video" in page
    document = site.get("/api/runs").json()
    assert document["coverage"]["failed"] == 1
    assert [group["count"] for group in document["failures"]] == [1]


def test_of_many_failures_the_first_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4", frames=5)
    for number in range(53):
        (archive.videos / f"bad{number:02}.mp4").write_text(f"no video {number}")
    archive.run()
    with served(archive) as site:
        page = site.page("/runs")
        (group,) = site.get("/api/runs").json()["failures"]
    archive.write_job(sampling={"segment": "7s"})
    with served(archive) as site:
        assert "Nothing is indexed with the settings of test yet." in site.page("/runs")
    assert (group["count"], len(group["videos"])) == (53, 50)
    assert [f"bad{number}.mp4</b>" in page for number in ("00", "49", "50")] == [True, True, False]
    assert "<b>53</b>" in page
    assert "<p>and 3 more</p>" in page


def test_the_runs_page_says_how_a_passing_failure_is_tried_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    (archive.videos / "slow.mp4").write_text("no video")
    archive.add("a.mp4", frames=5)
    archive.run()
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE result SET code = 'E_TIMEOUT'")
    with served(archive) as site:
        page = site.page("/runs")
    assert "<p>Raise decode.timeout if the file is only slow, then run with --retry-failed.</p>" in page
    assert "next run" not in page


def test_the_report_of_a_run_is_one_click_away_and_can_do_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    assert archive.command("run", str(archive.write_job()), "--local").returncode == 0
    assert archive.run().ended == "complete"  # nothing was new: no report
    with served(archive) as site:
        assert links(site.page("/runs"), "/runs/") == ["/runs/1.html"]
        report = site.get("/runs/1.html")
        assert report.content == (tmp_path / "index" / "reports" / "run-1.html").read_bytes()
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
        assert report.headers["content-security-policy"] == policy
        assert [site.get(f"/runs/{run}.html").status_code for run in (2, 99, 10**12)] == [404, 404, 404]


def test_an_index_in_postgresql_is_shown_as_any_other(tmp_path: Path, postgres: Postgres) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    (archive.videos / "bad.mp4").write_text("no video")
    archive.run(output={"catalog": postgres.url(postgres.database())})
    with served(archive) as site:
        assert "1 of 2 videos are indexed" in site.page("/", q=site.query)
        card = links(site.page("/", q=site.query), "/video/")[0]
        assert 'class="cell"' in site.page(card)
        assert "bad.mp4</b> is not a video" in site.page("/runs")
        assert "a.mp4" in site.get("/export.csv", params={"q": site.query}).text


def test_an_address_says_all_of_a_search_and_nothing_that_is_as_usual() -> None:
    asked = Asked(q="a & b", min_score=0.25, sort="newest", under="/x/")
    assert asked.link() == "/?q=a+%26+b&min_score=0.25&sort=newest&under=%2Fx%2F"
    assert Asked(q="yoga").link("/video/3", t=12.5, n=2) == "/video/3?t=12.5&n=2&q=yoga"
    assert Asked().link() == "/"
    assert asked_by({"q": " a & b ", "min_score": "0.25", "sort": "newest", "under": "/x/"}) == asked
    assert asked_by({"q": "yoga", "limit": "100000"}).limit == 960
    assert Asked(q="yoga").link(t=123456.789) == "/?t=123456.789&q=yoga"
    with pytest.raises(ConfigError, match="like:"):
        asked_by({"like": "1:5-5"})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).filter(str.strip))
def test_every_label_can_be_asked_for_by_its_link(name: str) -> None:
    assert parse(by_label(name)).action.labels == (name,)
    if '"' in name or ":" in name:
        assert as_typed(name) == by_label(name)


def test_each_filter_can_be_taken_away() -> None:
    asked = Asked(q='yoga near:5s label:"a b" -label:c score:>0.5 massage', min_score=0.25, under="/x/", limit=48)
    assert [(chip.text, asked_by(dict(parse_qsl(chip.without.partition("?")[2])))) for chip in chips(asked)] == [
        ('near:5s label:"a b" massage', Asked(q="yoga -label:c score:>0.5", min_score=0.25, under="/x/")),
        ('label:"a b"', Asked(q="yoga near:5s -label:c score:>0.5 massage", min_score=0.25, under="/x/")),
        ("-label:c", Asked(q='yoga near:5s label:"a b" score:>0.5 massage', min_score=0.25, under="/x/")),
        ("score:>0.5", Asked(q='yoga near:5s label:"a b" -label:c massage', min_score=0.25, under="/x/")),
        ("score at least 0.25", Asked(q=asked.q, under="/x/")),
        ("in /x/", Asked(q=asked.q, min_score=0.25)),
    ]
    assert chips(Asked(q='label:"yoga"')) == []  # nothing to look for would be left
    assert [chip.text for chip in chips(Asked(q="label:a near:1s b dur:>1s"))] == ["near:1s b", "dur:>1s"]
    assert [chip.without for chip in chips(Asked(like="1:0-5", min_score=0.5))] == ["/?like=1%3A0-5"]


def test_a_strip_shows_searched_labels_first_and_time_that_was_not_analysed() -> None:
    segments = [
        ShownSegment(2000, 4000, {"yoga": 0.9, "archery": 0.05}),
        ShownSegment(4000, 6000, {"yoga": 0.94}),
        ShownSegment(8000, 10_000, {"archery": 0.3}),
    ]
    shown = strip(segments, 10_000, ["archery"])
    assert [(lane.label, lane.searched) for lane in shown.lanes] == [("archery", True), ("yoga", False)]
    assert [cell[:3] for cell in shown.lanes[1].cells] == [(2000, 6000, 0.94)]
    assert [cell[:3] for cell in shown.lanes[0].cells] == [(2000, 4000, 0.05), (8000, 10_000, 0.3)]
    assert shown.analysed == ((200, 400), (800, 200))
    assert (shown.missing_ms, shown.more) == (4000, 0)
    assert strip([], 5000, []) == ((), (), 5000, 0)
