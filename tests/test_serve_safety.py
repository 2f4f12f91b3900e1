"""Attacks on the search page, each over the real application."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from functools import partial
from html import unescape
from pathlib import Path

import av
import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from indexer.errors import AccessDenied, ConfigError, Corrupt, DecoderCrash, DecodeTimeout, OutOfMemory, VideoSkip
from indexer.index import current_recipe, index_of
from indexer.records import Video
from indexer.search.query import by_label
from indexer.serve import pictures
from indexer.serve.app import make_app
from indexer.serve.archive import Archive as Shown
from indexer.serve.darkroom import Darkroom, Darkrooms
from indexer.serve.media import open_inside, plays_in_browsers
from indexer.serve.server import serve
from tests.archives import Archive

HOSTILE = "<img src=x onerror=alert(1)>\"'=1+1.mp4"
HOSTILE_LABEL = '=HYPERLINK("<script>alert(1)</script>")'
HOSTILE_TITLE = "<script>alert('title')</script>"
TOKEN = "a token of many letters"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("hostile"))
    archive.add("inner/plain.mp4")
    write_title(archive.add(HOSTILE, first=7), HOSTILE_TITLE)
    archive.run()
    with closing(sqlite3.connect(archive.folder / "index" / "catalog.db")) as catalog, catalog:
        rarest = "SELECT label_id FROM label_stat GROUP BY label_id ORDER BY sum(n), label_id LIMIT 1"
        catalog.execute(f"UPDATE label SET name = ? WHERE id = ({rarest})", [HOSTILE_LABEL])
    return archive


def write_title(path: Path, title: str) -> None:
    plain = path.rename(path.with_suffix(".plain"))
    with av.open(str(plain)) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata["title"] = title
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    with av.open(str(path)) as written:
        assert written.metadata["title"] == title


@pytest.fixture(scope="module")
def opened(archive: Archive) -> Iterator[tuple[Shown, Engine]]:
    job, engine = index_of(archive.job_path)
    yield Shown(job, engine, current_recipe(job, engine)), engine
    engine.dispose()


@pytest.fixture(scope="module")
def client(opened: tuple[Shown, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(make_app(opened[0], copies=tmp_path_factory.mktemp("copies")), "http://localhost:8765") as client:
        yield client


@pytest.fixture(scope="module")
def locked(opened: tuple[Shown, Engine]) -> Iterator[TestClient]:
    with TestClient(make_app(opened[0], names=["archive.example"], token=TOKEN), "http://archive.example") as client:
        yield client


def query(client: TestClient) -> str:
    labels = [row["label"] for row in client.get("/api/labels").json()]
    return f'label:"{next(label for label in labels if label != HOSTILE_LABEL)}"'


def number_of(client: TestClient, name: str) -> int:
    moments = client.get("/api/search", params={"q": query(client), "limit": "100"}).json()["moments"]
    return next(moment["video_id"] for moment in moments if moment["uri"].endswith(name))


@pytest.mark.parametrize("path", ["/", "/runs", "/api/labels", "/static/app.css", "/nothing", "/media/1"])
def test_every_answer_forbids_what_is_not_ours(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8765", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8765", 421),
        ("localhost.evil.example", 421),
        ("localhost:8765@evil.example", 421),
        ("", 421),
    ],
)
def test_only_our_names_are_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/", headers={"host": host}).status_code == status


FOLLOWED = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
"""A link, that is, and not what a page loads or frames."""


def test_other_sites_cannot_put_it_to_work(client: TestClient) -> None:
    number = number_of(client, "plain.mp4")
    of_video = [f"/copy/{number}/0-1000.mp4", f"/frame/{number}/0.jpg", f"/media/{number}"]
    costly = [*of_video, "/export.csv?q=yoga", "/api/search?q=yoga"]
    pages = ["/?q=yoga", f"/video/{number}", "/runs"]
    followed, framed = (
        {"sec-fetch-site": "cross-site", **FOLLOWED, "sec-fetch-dest": dest} for dest in ("document", "iframe")
    )
    loaded = [
        {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
        for site in ("cross-site", "same-site")  # another port of this machine is of the same site
    ]

    def statuses(paths: list[str], *headers: dict[str, str]) -> set[int]:
        return {client.get(path, headers=asked_by).status_code for path in paths for asked_by in headers}

    assert statuses([*costly, *pages, "/static/app.js"], *loaded, framed) == {403}
    assert statuses(costly, followed) == {403}
    assert statuses(pages, followed) == {200}
    assert statuses(of_video, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}) == {200}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    answer = client.request(method, "/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/media/1", "/frame/1/0.jpg", "/api/labels", "/export.csv?q=yoga", "/static/app.css"])
def test_nothing_is_shown_without_the_token(locked: TestClient, path: str) -> None:
    wrong = {"authorization": f"Bearer {TOKEN[:-1]}"}
    right = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get(path).status_code == locked.get(path, headers=wrong).status_code == 401
    assert locked.get(path, headers=right).status_code != 401


def test_the_token_leaves_the_address_for_a_cookie_that_scripts_cannot_read(locked: TestClient) -> None:
    answer = locked.get("/", params={"q": "yoga", "token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=yoga")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=lax" in answer.headers["set-cookie"]
    assert locked.get("/").status_code == 200
    locked.cookies.clear()
    assert locked.get("/", params={"token": "wrong"}).status_code == 401
    away = locked.get("http://archive.example//evil.example/", params={"token": TOKEN}, follow_redirects=False)
    assert away.headers["location"] == "/evil.example/"
    locked.cookies.clear()


def test_pages_on_two_ports_of_a_host_do_not_lock_each_other_out(opened: tuple[Shown, Engine], locked: TestClient) -> None:
    """Browsers give the cookies of a host to all its ports."""
    another = "another-token-of-a-page"
    with TestClient(make_app(opened[0], names=["archive.example"], token=another), "http://archive.example") as neighbour:
        neighbour.cookies = locked.cookies
        assert [locked.get("/", params={"token": TOKEN}).status_code, locked.get("/").status_code] == [200, 200]
        assert [neighbour.get("/", params={"token": another}).status_code, neighbour.get("/").status_code] == [200, 200]
        assert locked.get("/").status_code == 200
        name = next(iter(locked.cookies))
        locked.cookies.clear()
        assert locked.get("/", headers={"cookie": f"{name}=x"}).status_code == 401
        beside = 'theirs={"a": [1]}'  # no cookie by the letter of the law, but some programs set such
        assert locked.get("/", headers={"cookie": f"{beside}; {name}={TOKEN}"}).status_code == 200


def test_file_names_are_text_and_nothing_else(client: TestClient) -> None:
    number = number_of(client, HOSTILE)
    for address in ("/?q=" + query(client).replace('"', "%22"), f"/video/{number}"):
        page = client.get(address).text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "<img src=x" not in page
        assert "<script>alert" not in page  # nor is the title of the file, wherever it is shown
    for hostile in ('"><script>alert(1)</script>', "'onfocus=alert(1) '"):
        of_search = [("/", name) for name in ("q", "under", "sort", "like", "min_score", "limit")]
        of_video = [(f"/video/{number}", name) for name in ("t", "n", "small", "q", "under")]
        for path, name in of_search + of_video:
            page = client.get(path, params={"q": "yoga", name: hostile}).text
            assert "<script>alert" not in page
            assert not re.search(r"<[^>]*\sonfocus=", re.sub(r'"[^"]*"', '""', page))


def test_names_of_labels_are_text_and_no_formulas(client: TestClient) -> None:
    q = by_label(HOSTILE_LABEL)
    page, first = client.get("/", params={"q": q}).text, client.get("/").text
    (card, *_) = re.findall(r'<a class="open" href="([^"]*)"', page)
    for shown in (page, first, client.get(unescape(card)).text):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert "<script>alert" not in shown
    rows = list(csv.DictReader(io.StringIO(client.get("/export.csv", params={"q": q}).text)))
    assert {row["label"] for row in rows} == {f"'{HOSTILE_LABEL}"}


@pytest.mark.parametrize(
    ("name", "codec", "plays"),
    [
        ("a.mp4", "h264", True),
        ("a.MOV", "h264", True),
        ("a.webm", "vp9", True),
        ("a.mp4", "av1", True),
        ("a.mp4", "hevc", False),
        ("a.mov", "prores", False),
        ("a.mp4", "mpeg2video", False),
        ("a.mkv", "h264", False),
        ("a.avi", "mpeg4", False),
        ("a.mp4", "", False),
    ],
)
def test_only_what_all_browsers_know_is_played_as_it_is(name: str, codec: str, plays: bool) -> None:
    assert plays_in_browsers(f"/videos/{name}", codec) is plays


def test_pages_have_no_script_or_style_of_their_own(client: TestClient) -> None:
    for address in ("/", f"/?q={query(client)}", f"/video/{number_of(client, 'plain.mp4')}", "/runs", "/nothing"):
        page = client.get(address).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|javascript:", page), address
        assert all(tag.startswith('<script src="/static/') for tag in re.findall(r"<script[^>]*>", page)), address
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), address


def test_exported_names_are_no_formulas(client: TestClient) -> None:
    rows = list(csv.reader(io.StringIO(client.get("/export.csv", params={"q": query(client)}).text)))
    assert any(HOSTILE in row[0] for row in rows)
    assert not [cell for row in rows[1:] for cell in row if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize(
    "path",
    [
        "/media/..%2f..%2fetc%2fpasswd",
        "/media//etc/passwd",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/cli.py",
        "/frame/1/../../etc/passwd",
        "/copy/1/0-1000.mp4%00",
        "/media/-1",
        "/media/1e1",
    ],
)
def test_no_path_leads_to_a_file(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_link_leads_nowhere_even_if_it_was_a_file_when_it_was_indexed(client: TestClient, archive: Archive) -> None:
    number, path = number_of(client, "plain.mp4"), archive.videos / "inner" / "plain.mp4"
    assert client.get(f"/media/{number}").status_code == 200
    secret = archive.folder / "secret"
    secret.write_bytes(b"secret")
    aside = archive.folder / "aside"
    path.rename(aside)
    try:
        path.symlink_to(secret)
        answers = [
            client.get(f"/media/{number}"),
            client.get(f"/copy/{number}/0-500.mp4"),
            client.get(f"/frame/{number}/7.jpg"),
        ]
        path.unlink()
    finally:
        aside.rename(path)
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert all(b"secret" not in answer.content for answer in answers)
    folder = path.parent
    folder.rename(archive.folder / "moved")
    try:
        folder.symlink_to(archive.folder / "moved")
        assert client.get(f"/media/{number}").status_code == 404
        folder.unlink()
    finally:
        (archive.folder / "moved").rename(folder)
    assert client.get(f"/media/{number}").status_code == 200


def test_only_files_of_the_source_are_opened(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.mp4").write_bytes(b"a")
    (tmp_path / "source-2").mkdir()
    (tmp_path / "source-2" / "b.mp4").write_bytes(b"b")
    os.mkfifo(source / "pipe.mp4")
    inside = open_inside(str(source), f"{source}/a.mp4", owner=str(source))
    assert os.read(inside, 9) == b"a"
    os.close(inside)
    for uri in (f"{tmp_path}/source-2/b.mp4", f"{source}/../source-2/b.mp4", "/etc/passwd", str(source), "s3://bucket/a.mp4"):
        with pytest.raises(AccessDenied):
            open_inside(str(source), uri, owner=str(source))
    with pytest.raises(VideoSkip, match="not a regular file"):
        open_inside(str(source), f"{source}/pipe.mp4", owner=str(source))
    with pytest.raises(VideoSkip, match="disappeared"):
        open_inside(str(source), f"{source}/none.mp4", owner=str(source))


def test_a_manifest_opens_only_what_the_catalog_says_it_named(tmp_path: Path) -> None:
    manifest, video = tmp_path / "list.txt", tmp_path / "a.mp4"
    manifest.write_text(str(video))
    video.write_bytes(b"a")
    os.close(open_inside(str(manifest), str(video), owner=str(manifest)))
    with pytest.raises(AccessDenied):
        open_inside(str(manifest), str(video), owner="/another/source")


def test_no_folder_on_the_way_to_a_file_of_a_manifest_may_have_become_a_link(tmp_path: Path) -> None:
    manifest, folder = str(tmp_path / "list.csv"), tmp_path / "named"
    for place in (folder, tmp_path / "private"):
        (place / "inner").mkdir(parents=True)
        (place / "inner/a.mp4").write_text(place.name)
    os.close(open_inside(manifest, f"{folder}/inner/a.mp4", owner=manifest))
    folder.rename(tmp_path / "away")
    folder.symlink_to(tmp_path / "private")
    with pytest.raises(AccessDenied, match="is a symbolic link"):
        open_inside(manifest, f"{folder}/inner/a.mp4", owner=manifest)


def test_many_ranges_are_answered_as_one_whole(client: TestClient, archive: Archive) -> None:
    number, size = number_of(client, "plain.mp4"), (archive.videos / "inner" / "plain.mp4").stat().st_size
    many = client.get(f"/media/{number}", headers={"range": "bytes=" + ",".join(f"{n}-{n}" for n in range(500))})
    assert (many.status_code, len(many.content)) == (200, size)


def test_copies_and_pictures_are_bounded(client: TestClient) -> None:
    number = number_of(client, "plain.mp4")
    for span in ("0-60001", "5-5", "9-3", "0-99999999999999"):
        assert client.get(f"/copy/{number}/{span}.mp4").status_code == 400, span
    assert client.get(f"/frame/{number}/99999999999999999999.jpg").status_code == 200  # the last picture
    assert client.get("/export.csv", params={"q": query(client), "limit": "999999999"}).status_code == 200


def test_whoever_asks_for_too_much_at_once_is_told_to_come_back() -> None:
    async def ask() -> list[object]:
        shop = pictures.Workshop[str]("test", workers=1, waiting=1)
        free = threading.Event()

        def make() -> str:
            free.wait(10)
            return "made"

        orders = [asyncio.create_task(shop.get(key, make)) for key in ("a", "a", "b", "c")]
        await asyncio.sleep(0.05)
        free.set()
        answers = await asyncio.gather(*orders, return_exceptions=True)
        shop.close()
        return list(answers)

    first, same, second, refused = asyncio.run(ask())
    assert (first, same, second) == ("made", "made", "made")
    assert isinstance(refused, pictures.TooBusy)


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    async def ask() -> list[str]:
        shop = pictures.Workshop[str]("test", workers=1, waiting=3)
        free, begun = threading.Event(), list[str]()

        def make(key: str) -> str:
            begun.append(key)
            free.wait(10)
            return key

        orders = [asyncio.create_task(shop.get(key, partial(make, key))) for key in ("a", "b", "c", "c")]
        await asyncio.sleep(0.05)
        for order in orders[:3]:
            order.cancel()
        await asyncio.sleep(0.05)
        begun_anew = asyncio.create_task(shop.get("a", partial(make, "a anew")))  # it is being made: it is not made twice
        await asyncio.sleep(0.05)
        free.set()
        assert await asyncio.gather(begun_anew, orders[3]) == ["a", "c"]
        shop.close()
        return begun

    assert asyncio.run(ask()) == ["a", "c"]


def test_a_browser_that_has_gone_away_waits_for_no_copy(
    opened: tuple[Shown, Engine], client: TestClient, tmp_path: Path
) -> None:
    app = make_app(opened[0], copies=tmp_path)
    heard: list[int] = []

    async def ask(path: str) -> None:
        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, object]) -> None:
            if message["type"] == "http.response.start":
                heard.append(message["status"])  # type: ignore[arg-type]  # a number

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"localhost")]}
        await app(scope, receive, send)

    async def ask_for_all() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.gather(*(ask(f"/copy/{number}/{start}-1999.mp4") for start in range(9)))

    number = number_of(client, "plain.mp4")
    asyncio.run(ask_for_all())
    assert (len(heard), heard[-1], set(heard) - {200, 499}) == (9, 499, set())
    assert len(list(tmp_path.glob("*.mp4"))) < 9


def test_of_a_video_that_broke_its_decoder_no_picture_is_made(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    (archive.videos / "bad.mp4").write_text("no video")
    archive.run()
    archive.add("bad.mp4")  # a picture could be made of it
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE result SET code = 'E_DECODER_CRASH' WHERE state = 'failed'")
        number = catalog.execute("SELECT id FROM video WHERE uri LIKE '%/bad.mp4'").fetchone()[0]
    job, engine = index_of(archive.job_path)
    app = make_app(Shown(job, engine, current_recipe(job, engine)), copies=tmp_path / "copies")
    with TestClient(app, "http://localhost:8765") as client:
        assert client.get(f"/frame/{3 - number}/0.jpg").status_code == 200
        assert client.get(f"/frame/{number}/0.jpg").status_code == 404
        copy = client.get(f"/copy/{number}/0-500.mp4")
    assert (copy.status_code, "broke its decoder when it was indexed" in copy.text) == (404, True)
    engine.dispose()


def test_a_video_that_breaks_its_decoder_costs_its_own_picture(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import tests.standins\ntests.standins.install()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])]))
    monkeypatch.setenv("INDEXER_TEST_STANDIN", "pictures_misbehave")
    source = tmp_path / "videos"
    source.mkdir()
    good = (archive.videos / "inner" / "plain.mp4").read_bytes()
    for name in ("good", "segfault", "hang", "hoard", "odd"):
        (source / name).write_bytes(good + name.encode())
    darkroom = Darkroom(str(source), max_pixels=10**6, timeout_seconds=5)

    def picture(name: str) -> bytes:
        return darkroom.picture(Video(f"{source}/{name}", "1", 1, 0.0), str(source), 0.0, width=64)

    expected = picture("good")
    assert expected.startswith(b"\xff\xd8")
    for name, error, sentence in (
        ("segfault", DecoderCrash, "died"),
        ("hang", DecodeTimeout, "gave no picture for 5 s"),
        ("hoard", OutOfMemory, "more memory than there is"),
        ("odd", Corrupt, "RuntimeError: odd file"),
        ("none", VideoSkip, "disappeared"),
    ):
        with pytest.raises(error, match=sentence):
            picture(name) if name != "none" else darkroom.picture(
                Video(f"{source}/none", "1", 1, 0.0), str(source), 0.0, width=9
            )
        assert picture("good") == expected
    darkroom.close()


def test_the_oldest_copies_make_room(opened: tuple[Shown, Engine], client: TestClient, tmp_path: Path) -> None:
    job = opened[0].job
    shown = opened[0].video(number_of(client, "plain.mp4"))
    assert shown is not None
    darkrooms = Darkrooms(job.source.uri, max_pixels=job.decode.max_pixels, timeout_seconds=60)
    copies = pictures.Copies(darkrooms, tmp_path / "copies", kept_bytes=1)
    first = asyncio.run(copies.get(shown, 0, 500))
    os.utime(first, (1, 1))
    left = first.with_suffix(".999.tmp")  # by a page that was killed
    left.write_bytes(b"half a copy")
    os.utime(left, (1, 1))
    (tmp_path / "copies" / "swept by another page.mp4").symlink_to("nowhere")
    second = asyncio.run(copies.get(shown, 500, 1000))
    copies.close()
    darkrooms.close()
    (tmp_path / "copies" / "swept by another page.mp4").unlink()
    assert list((tmp_path / "copies").iterdir()) == [second] != [first]
    assert (tmp_path / "copies").stat().st_mode & 0o777 == 0o700


def test_the_catalog_cannot_be_written_through_the_page(opened: tuple[Shown, Engine]) -> None:
    with pytest.raises(OperationalError, match="readonly"), opened[1].begin() as connection:
        connection.execute(text("DELETE FROM video"))


def test_an_address_that_others_reach_needs_a_token_that_is_not_short(archive: Archive) -> None:
    with pytest.raises(ConfigError, match="at least 16"):
        serve(archive.job_path, host="127.0.0.1", port=0, names=(), token="short", semantic=None, as_json=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="choose another port"):
            serve(archive.job_path, host="127.0.0.1", port=port, names=(), token=None, semantic=None, as_json=False)
    with pytest.raises(ConfigError, match="no sentence-embedding model"):
        serve(archive.job_path, host="127.0.0.1", port=0, names=(), token=None, semantic="/nowhere", as_json=False)


@pytest.mark.parametrize(("host", "has_token"), [([], False), (["--host", "0.0.0.0"], True)])
def test_the_command_serves_until_it_is_interrupted(archive: Archive, host: list[str], has_token: bool) -> None:
    command = [
        sys.executable,
        "-m",
        "indexer",
        "serve",
        "--job",
        str(archive.job_path),
        "--port",
        "0",
        *host,
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://[^:]+:(\d+)/(?:\?token=(\S{32}))?\s", line)
            assert found, line
            assert (found[2] is not None) == has_token
            assert json.loads(process.stdout.readline()) == {"job": "test", "address": found[0].strip()}
            address = f"http://127.0.0.1:{found[1]}/"
            with socket.socket() as other:  # what only listens on 127.0.0.1 is not there
                assert (other.connect_ex(("127.0.0.2", int(found[1]))) == 0) == has_token
            assert _get(address).status_code == (401 if has_token else 200)
            assert _get(address, params={"token": found[2]} if has_token else None).status_code == 200
        finally:
            process.send_signal(2)
            assert process.wait(20) in (0, 130)


def test_before_the_first_run_the_page_says_so_and_its_container_is_healthy(tmp_path: Path) -> None:
    """As docker/compose.yaml starts it: with a token, and the image's own check of its health."""
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    token = "open & closed #1 + 2%"
    command = [sys.executable, "-m", "indexer", "serve", "--job", str(archive.write_job()), "--port", "0"]
    environment = os.environ | {"INDEXER_TOKEN": token, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"(http://127\.0\.0\.1:\d+/)\S+", line)
            assert found, line
            assert _get(found[0]).status_code == 200
            assert _get(found[1]).status_code == 401
            first = _get(found[1], params={"token": token})
            assert (first.status_code, "test: there is no index yet" in first.text) == (200, True)
            assert _get(f"{found[1]}api/labels", params={"token": token}).status_code == 503
            check = [Path(__file__).parents[1] / "docker/healthcheck.sh"]
            for known, code in ((token, 0), ("another of many letters", 1)):
                health = {"INDEXER_HEALTH": found[1], "INDEXER_TOKEN": known}
                assert subprocess.run(check, env=environment | health, stderr=subprocess.DEVNULL).returncode == code
            archive.run()
            assert "Find a moment" in _get(found[1], params={"token": token}).text
        finally:
            process.send_signal(2)
            assert process.wait(20) in (0, 130)


def _get(address: str, params: dict[str, str] | None = None) -> httpx.Response:
    give_up = time.monotonic() + 20
    while True:
        try:
            return httpx.get(address, params=params, follow_redirects=True, timeout=20, trust_env=False)
        except httpx.ConnectError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
