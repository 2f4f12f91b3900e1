"""The search page in a real browser, as people use it: typing, watching, keys, a narrow screen, no JavaScript."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from indexer.catalog.commit import finish_run, start_run
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.records import Recipe
from indexer.search.synonyms import kinetics_synonyms
from tests.archives import Archive, five_videos

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page was not seen in a browser")

OpenPage = Callable[..., Page]

UNNAMED = """() => [...document.querySelectorAll("a[href], button, input, select, video, svg")].filter((e) => {
  if (e.type === "hidden" || e.closest("[aria-hidden=true]")) return false;
  const name = e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent;
  return !name.trim();
}).map((e) => e.outerHTML)"""
"""Controls of which a screen reader would know nothing."""

PALE = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return e.parentElement && numbers(colour)[3] === 0 ? behind(e.parentElement) : colour;
  };
  const pale = [];
  for (const e of document.querySelectorAll("main *, header *")) {
    const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!says || !e.checkVisibility() || e.closest("svg, .length")) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort();
    if ((b + 0.05) / (a + 0.05) < 4.5) pale.push(`${e.outerHTML.slice(0, 80)} ${(b + 0.05) / (a + 0.05)}`);
  }
  return pale;
}"""
"""Text whose contrast is less than 4.5 to 1."""


@contextmanager
def serving(archive: Archive) -> Iterator[str]:
    """The address of a page served by a process of its own."""
    command = [sys.executable, "-m", "indexer", "serve", "--job", str(archive.job_path), "--port", "0"]
    environment = os.environ | {"XDG_CACHE_HOME": str(archive.folder / "cache")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        found = re.search(r"http://\S+/", server.stderr.readline())
        assert found
        yield found[0].rstrip("/")
        server.terminate()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = five_videos(Archive(tmp_path_factory.mktemp("browsed")))
    archive.run()
    return archive


@pytest.fixture(scope="module")
def address(archive: Archive) -> Iterator[str]:
    with serving(archive) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[OpenPage]:
    """A page of its own, that complains of nothing: a refusal by the content policy, for example, is an error there."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def open_page(path: str, **options: Any) -> Page:
            context = browser.new_context(base_url=address, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(path)
            return page

        yield open_page
    assert complaints == []


@pytest.fixture(scope="module")
def query(browser: Browser, address: str) -> str:
    page = browser.new_page()
    label = page.goto(f"{address}/api/labels").json()[0]["label"]  # type: ignore[union-attr]  there is an answer
    page.close()
    return str(label)


def card_links(page: Page) -> Locator:
    return page.locator(".card .open")


def wait_for(page: Page, condition: str) -> None:
    """As `page.wait_for_function`, which the content policy of our pages forbids."""
    give_up = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < give_up, condition
        page.wait_for_timeout(50)


def box(page: Page) -> Locator:
    return page.get_by_role("combobox", name="What happens")


def test_typing_offers_labels_and_finds_moments_that_open_where_they_are(open_page: OpenPage, query: str) -> None:
    page = open_page("/")
    expect(box(page)).to_be_focused()
    assert page.locator(f'#labels option[value="{query}"]').text_content() != ""
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    expect(page.locator(".sum").first).to_contain_text(f"of {query}")
    assert card_links(page).count() > 3
    wait_for(page, "[...document.querySelectorAll('.card:first-child img')].every((img) => img.naturalWidth > 100)")
    card_links(page).first.click()
    expect(page.locator("#player")).to_be_visible()


def test_a_moment_opens_where_it_is(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}")
    page.get_by_role("link", name="More like this").first.click()  # of one segment each: not all begin with their video
    late = page.locator(".card .open:not([href*='t=0&'])").first
    link = late.get_attribute("href")
    assert link
    late.click()
    wait_for(page, "document.getElementById('player')?.readyState >= 2")
    seconds = float(link.partition("t=")[2].partition("&")[0])
    assert seconds > 0
    assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(seconds, abs=0.05)
    assert "/media/" in page.evaluate("document.getElementById('player').currentSrc")


def test_keys_go_through_hits_and_frames(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(card_links(page).nth(1)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(card_links(page).nth(0)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Hit 1:")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Hit 2:")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("Hit 1:")).to_be_visible()
    wait_for(page, "document.getElementById('player').readyState >= 2")
    start = page.evaluate("document.getElementById('player').currentTime")
    for key, frames in ((".", 1), (".", 2), (",", 1)):
        page.keyboard.press(key)
        wait_for(page, "!document.getElementById('player').seeking")
        now = page.evaluate("document.getElementById('player').currentTime")
        assert now - start == pytest.approx((frames + 0.5) / 25, abs=0.01), key
    page.locator("#player").click()
    wait_for(page, "!document.getElementById('player').paused")  # a busy browser plays a while after the click
    places = []
    for key in (".", ".", ","):  # the first one pauses it, too
        page.keyboard.press(key)
        wait_for(page, "!document.getElementById('player').seeking")
        places.append(now := page.evaluate("document.getElementById('player').currentTime"))
    assert [place - places[0] for place in places] == pytest.approx([0, 1 / 25, 0], abs=0.01)
    page.keyboard.press("/")
    expect(box(page)).to_be_focused()
    page.keyboard.type(".,")
    assert page.evaluate("document.getElementById('player').currentTime") == now


def test_more_moments_come_below_and_leave_the_rest_as_it_was(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}&limit=3", viewport={"width": 700, "height": 500})
    first = card_links(page).first.get_attribute("href")
    for box in page.locator("input[name=pick]").all()[:2]:
        box.check()
    more = page.get_by_role("link", name="Show more")
    more.scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    assert place > 0
    more.click()
    expect(more).to_have_count(0)  # these are all
    shown = card_links(page).count()
    assert shown > 3
    expect(page.locator("#picked")).to_have_text("Export the 2 selected:")
    assert page.evaluate("scrollY") == place
    assert page.url.endswith("&limit=27")
    assert card_links(page).first.get_attribute("href") == f"{first}".replace("limit=3", "limit=27")
    expect(card_links(page).nth(3)).to_be_focused()
    page.locator("input[name=pick]").nth(3).check()
    expect(page.locator("#picked")).to_have_text("Export the 3 selected:")
    expect(page.locator(".sum").first).to_contain_text(str(shown))
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 4


def test_without_script_a_longer_answer_begins_where_the_first_one_ended(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}&limit=3", java_script_enabled=False)
    page.get_by_role("link", name="Show more").click()
    assert page.url.endswith("#moment-4")
    expect(page.locator("#moment-4")).to_be_visible()


def test_a_pointer_that_rests_on_a_card_sees_it_move(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}")
    card_links(page).first.hover()
    wait_for(page, "document.querySelector('.card video')?.currentTime > 0.2")
    assert "/media/" in page.evaluate("document.querySelector('.card video').currentSrc")
    page.mouse.move(0, 0)
    expect(page.locator(".card video")).to_have_count(0)
    long = page.locator(".card .open", has=page.locator(".length", has_text=re.compile(r"^[5-9]|^1\d"))).first
    long.hover()
    wait_for(page, "document.querySelector('.card video')?.currentTime > 0")
    began = page.evaluate("Number(document.querySelector('.card video').src.split('#t=')[1])")
    wait_for(
        page, f"!document.querySelector('.card video') || document.querySelector('.card video').currentTime > {began} + 1.5"
    )
    expect(page.locator(".card video")).to_have_count(0)  # two seconds are enough, and the pointer is still there


def test_the_strip_is_walked_by_keys(open_page: OpenPage) -> None:
    page = open_page("/video/2")
    lane = page.locator(".lane svg[role=group]", has=page.locator("a:nth-of-type(2)")).first
    for number in range(3, 7):  # one of them has a label that comes and goes
        if lane.count() == 0:
            page.goto(f"/video/{number}")
    lane.locator("a").first.focus()
    page.keyboard.press("ArrowRight")
    expect(lane.locator("a").nth(1)).to_be_focused()
    named = lane.locator("a").nth(1).get_attribute("aria-label")
    assert re.fullmatch(r".+ [01]\.\d\d, 00:00:\d\d to 00:00:\d\d", named or "")
    assert lane.locator("a:not([tabindex='-1'])").count() == 1
    address = lane.locator("a").nth(1).get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{address}")


def test_a_copy_that_cannot_be_made_is_explained_and_tried_again(browser: Browser, address: str) -> None:
    page = browser.new_page(base_url=address)
    busy = True

    def answer(route: Route) -> None:
        problem = '<section class="problem"><p>Too many pictures are being made.</p></section>'
        if busy:
            route.fulfill(status=503, headers={"retry-after": "1"}, content_type="text/html", body=problem)
        else:
            route.continue_()

    page.route("**/copy/*/*", answer)
    page.goto("/video/2?t=1&small=1")
    expect(page.locator("#fault")).to_have_text("Too many pictures are being made.")
    busy = False
    wait_for(page, "document.getElementById('player').readyState >= 2")
    expect(page.locator("#fault")).to_be_empty()
    page.close()


def test_what_is_selected_is_exported(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}")
    expect(page.locator("#picked")).to_have_text("Export all:")
    page.get_by_label("Select moment 1", exact=True).check()
    page.get_by_label("Select moment 3", exact=True).check()
    expect(page.locator("#picked")).to_have_text("Export the 2 selected:")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "moments.csv"
    assert len(Path(download.value.path()).read_text().splitlines()) == 3


def test_more_like_this_leads_to_other_moments(open_page: OpenPage, query: str) -> None:
    page = open_page(f"/?q={query}")
    page.get_by_role("link", name="More like this").first.click()
    expect(page.locator(".sum").first).to_contain_text("that look like")
    page.get_by_role("combobox", name="Score").select_option("0.5")
    page.wait_for_url(re.compile(r"min_score=0\.5.*like=|like=.*min_score=0\.5"))
    expect(page.locator(".sum").first).to_contain_text("that look like")


def test_what_the_browser_cannot_play_is_shown_as_a_small_copy(open_page: OpenPage) -> None:
    page = open_page("/")
    page.route("**/media/*", lambda route: route.fulfill(content_type="video/mp4", body="no video"))
    page.goto("/video/2?t=1")
    page.wait_for_url("**/video/2?t=1*small=1*")
    wait_for(page, "document.getElementById('player')?.readyState >= 2")
    assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(1, abs=0.05)


def test_search_and_play_work_without_javascript(open_page: OpenPage, query: str) -> None:
    page = open_page("/", java_script_enabled=False)
    box(page).fill(query)
    page.get_by_role("button", name="Search").click()
    card_links(page).nth(1).click()
    expect(page.get_by_text("Hit 2:")).to_be_visible()
    source = page.locator("#player").get_attribute("src")
    assert source
    assert re.fullmatch(r"/media/\d+#t=[\d.]+", source)
    page.get_by_role("link", name="Hit 1", exact=False).click()
    expect(page.get_by_text("Hit 1:")).to_be_visible()
    page.get_by_role("link", name="All hits").click()
    page.get_by_label("Select moment 1", exact=True).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    assert Path(download.value.path()).read_text().count('"uri"') == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/?q={query}", "/video/2?q={query}&n=1&t=1", "/runs"])
def test_pages_fit_a_narrow_screen_and_can_be_read_and_named(open_page: OpenPage, query: str, path: str, scheme: str) -> None:
    page = open_page(path.format(query=query), viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(PALE) == []
    assert page.locator("h1").count() == 1
    assert page.locator("html[lang=en] > head > title").count() == 1


def test_the_box_knows_what_else_people_call_it(open_page: OpenPage, address: str) -> None:
    page = open_page("/")
    labels = [row["label"] for row in page.request.get(f"{address}/api/labels").json()]
    known = {label: kinetics_synonyms().labels[label][0].casefold() for label in labels}
    label, phrase = next((label, phrase) for label, phrase in known.items() if phrase not in label)
    box(page).press_sequentially(phrase)
    option = page.locator(f"#labels option[value='{label}'][data-phrase]")
    expect(option).to_be_attached()
    assert re.fullmatch(f"{re.escape(phrase)}: [1-9][0-9,]* segments", option.evaluate("option => option.label"))
    box(page).fill("")
    box(page).press_sequentially(f"laughing near:5s {phrase}")
    option = page.locator(f"#labels option[value='laughing near:5s {label}'][data-phrase]")
    expect(option).to_be_attached()
    assert option.evaluate("option => option.label").startswith(f"laughing near:5s {phrase}, as in {phrase}: ")


def test_the_runs_page_follows_a_run_at_work(open_page: OpenPage, archive: Archive) -> None:
    engine = open_catalog(f"sqlite:///{archive.folder}/index/catalog.db", create=False)
    assert engine is not None
    with acquire(engine, "by hand") as lease:
        page = open_page("/runs")
        page.locator("summary").click()
        recipe = Recipe("cd" * 32, '{"model": {"name": "r3d_18"}, "sampling": {"segment": 10.0}}')
        run = start_run(engine, lease=lease, recipe=recipe, labels=("yoga",))
        page.reload()
        page.locator("summary").click()
        row = page.locator("tr", has_text="by hand")
        expect(row).to_contain_text("running")
        page.evaluate("document.getElementById('now').dataset.old = '1'")
        expect(page.locator("#now")).not_to_have_attribute("data-old", "1", timeout=10_000)
        expect(page.locator("details")).to_have_attribute("open", "")
        finish_run(engine, run, "complete", {"videos": {"indexed": 12_345, "failed": 0}})
    expect(row).to_contain_text("12,345", timeout=10_000)
    expect(page.locator("#now")).not_to_have_attribute("data-changes", "")
    engine.dispose()
