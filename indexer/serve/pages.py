"""What is known -> HTML. All text from files and queries is escaped by the templates; nothing in them runs inline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from indexer.console import clock, printable
from indexer.errors import ConfigError, QueryError
from indexer.search import Moment, SearchResult
from indexer.search.edl import MOST_EVENTS
from indexer.search.export import FORMATS
from indexer.search.query import as_typed, by_label
from indexer.serve.archive import Archive, ShownVideo
from indexer.serve.asked import MOST, SHOWN, Asked
from indexer.serve.chips import chips
from indexer.serve.gate import POLICY
from indexer.serve.media import linked_origin, plays_in_browsers
from indexer.serve.pictures import COPY_SECONDS
from indexer.serve.strip import strip
from indexer.storage.address import is_s3

LABELS_SHOWN = 60
"""On the first page; the box knows all."""
EXPORTED = 10_000
"""Moments of an export; an EDL holds fewer."""
SCORES = (0.0, 0.1, 0.25, 0.5, 0.75)
_BEFORE_MS = 5_000
"""How much of what comes before a moment a small copy shows."""
_PREVIEW_MS = 2_000


_templates = Environment(
    loader=PackageLoader("indexer.serve"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_templates.filters |= {
    "as_typed": as_typed,
    "clock": clock,
    "printable": printable,
    "number": "{:,}".format,
    "date": lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M"),
    # As after: and before: mean it.
    "local_date": lambda seconds: datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z"),
}


class Card(NamedTuple):
    """One moment of an answer, as it is shown."""

    number: int
    moment: Moment
    video_id: int
    link: str
    """To its video, at the moment."""
    like: str
    """To what looks like it."""
    pick: str
    frames: tuple[str, str, str]
    """From its beginning, its middle, its end."""
    preview: str
    name: str
    folder: str
    in_folder: str
    """To the moments of its folder."""


def search(
    archive: Archive, asked: Asked, found: SearchResult | None, *, problem: ConfigError | None = None, status: int = 200
) -> HTMLResponse:
    """The box, and what was found: nothing yet if `found` is None."""
    labels = archive.labels()
    offered = () if found is None else found.candidates or found.commonest
    values = {
        "archive": archive,
        "asked": asked,
        "labels": labels,
        "shown_labels": [(name, count, asked.with_(q=by_label(name)).link()) for name, count in labels[:LABELS_SHOWN]],
        "coverage": archive.coverage() if found is None else found.coverage,
        "found": found,
        "cards": [] if found is None else _cards(archive, asked, found),
        "offered": [(name, asked.with_(q=by_label(name)).link()) for name in offered],
        "chips": chips(asked, readable=problem is None) if asked.is_search else [],
        "scores": sorted({*SCORES, asked.min_score}),
        "more": None if found is None else _more(asked, found),
        "formats": [form for form in FORMATS if form != "otio" or find_spec("opentimelineio")],
        "cut": {} if found is None else _cut(found),
        "problem": problem.problem if isinstance(problem, QueryError) else problem,
        "position": problem.position if isinstance(problem, QueryError) else None,
    }
    return _page("search.html", status, **values)


def video(archive: Archive, asked: Asked, shown: ShownVideo, at_ms: int, *, number: int, small: bool) -> HTMLResponse:
    """One video at a moment. `number` is that of the hit among those of `asked`, from 1; 0 if it is none of them."""
    found = archive.search(asked.with_(limit=max(asked.limit, number + 1))) if asked.is_search and number else None
    cards = [] if found is None else _cards(archive, asked, found)
    here = cards[number - 1] if number <= len(cards) and number else None
    if here is not None and here.video_id != shown.video_id:
        here = None  # the index has changed since
    segments = archive.segments(shown)
    duration_ms = round(1000 * shown.duration_seconds)
    searched = [] if found is None else [label for label, _ in found.labels]
    copied = small or not plays_in_browsers(shown.video.uri, shown.codec)
    first_ms = max(0, at_ms - _BEFORE_MS) if copied else 0
    last_ms = min(first_ms + 1000 * COPY_SECONDS, max(duration_ms, first_ms + 1000))
    src = f"/copy/{shown.video_id}/{first_ms}-{last_ms}.mp4" if copied else f"/media/{shown.video_id}"
    path = f"/video/{shown.video_id}"

    def at(ms: int, **more: object) -> str:
        return asked.link(path, t=ms / 1000, n=number, **more)

    def minute(ms: int) -> str:
        return at(ms, **({"small": 1} if small else {}))

    values = {
        "archive": archive,
        "asked": asked,
        "labels": archive.labels(),
        "shown": shown,
        "name": PurePosixPath(shown.video.uri).name,
        "at_ms": at_ms,
        "copied": copied,
        "chosen": small,
        "first_ms": first_ms,
        "last_ms": last_ms,
        "src": f"{src}#t={(at_ms - first_ms) / 1000:g}",
        "original": at(at_ms),
        "small": at(at_ms, small=1),
        "earlier": minute(max(0, first_ms - 1000 * COPY_SECONDS + _BEFORE_MS)) if first_ms else None,
        "later": minute(last_ms) if copied and last_ms < duration_ms else None,
        "here": here,
        "before": cards[number - 2] if here is not None and number > 1 else None,
        "after": cards[number] if here is not None and number < len(cards) else None,
        "back": asked.link() if asked.is_search else "/",
        "strip": strip(segments, duration_ms, searched),
        "length_ms": max(duration_ms, segments[-1].end_ms if segments else 1),
        "jump": at,
        "find": lambda label: Asked(q=by_label(label)).link(),
    }
    page = _page("video.html", 200, **values)
    if is_s3(shown.video.uri) and not copied:
        page.headers["content-security-policy"] = f"{POLICY}; media-src 'self' {linked_origin(shown.video)}"
    return page


def runs(archive: Archive) -> HTMLResponse:
    """What was indexed, when, and what not."""
    values = {
        "archive": archive,
        "asked": Asked(),
        "labels": archive.labels(),
        "coverage": archive.coverage(),
        "runs": (runs := archive.runs()),
        "reported": archive.reported(runs),
        "at_work": any(run.running for run in runs),
        "failures": archive.failures(),
    }
    return _page("runs.html", 200, **values)


def problem(archive: Archive, sentence: str, status: int) -> HTMLResponse:
    """A sentence instead of an answer."""
    return _page("problem.html", status, archive=archive, asked=Asked(), labels=[], sentence=sentence)


def _page(template: str, status: int, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(**values), status)


def _cards(archive: Archive, asked: Asked, found: SearchResult) -> list[Card]:
    ids = [found.videos[moment.uri].video_id for moment in found.moments]
    codecs = archive.codecs(ids)
    return [
        _card(asked, n, moment, video_id, codecs.get(video_id, ""))
        for n, (moment, video_id) in enumerate(zip(found.moments, ids, strict=True), 1)
    ]


def _card(asked: Asked, number: int, moment: Moment, video_id: int, codec: str) -> Card:
    start_ms, end_ms = round(1000 * moment.start_seconds), round(1000 * moment.end_seconds)
    first, middle, last = (start_ms + (end_ms - start_ms) * sixths // 6 for sixths in (1, 3, 5))
    folder = moment.uri[: moment.uri.rindex("/") + 1]
    # What S3 sends comes from elsewhere, which only the page of its video allows.
    as_it_is = plays_in_browsers(moment.uri, codec) and not is_s3(moment.uri)
    return Card(
        number=number,
        moment=moment,
        video_id=video_id,
        link=asked.link(f"/video/{video_id}", t=start_ms / 1000, n=number),
        like=Asked(like=f"{video_id}:{start_ms}-{end_ms}").link(),
        pick=pick_of(video_id, moment),
        frames=tuple(f"/frame/{video_id}/{at_ms}.jpg" for at_ms in (first, middle, last)),  # type: ignore[arg-type]
        preview=f"/media/{video_id}#t={middle / 1000:g}"
        if as_it_is
        else f"/copy/{video_id}/{middle}-{middle + _PREVIEW_MS}.mp4",
        name=PurePosixPath(moment.uri).name,
        folder=folder,
        in_folder=asked.with_(under=folder, limit=SHOWN).link(),
    )


def exported(form: str) -> int:
    """How many moments an export holds at most."""
    return MOST_EVENTS if form == "edl" else EXPORTED


def _cut(found: SearchResult) -> dict[str, int]:
    """Form of export -> how many moments it is cut to. Where they are not counted, it is said of what may be cut."""
    total = found.at_most if found.total is None else found.total
    return {form: exported(form) for form in FORMATS if total is None or total > exported(form)}


def pick_of(video_id: int, moment: Moment) -> str:
    """What names a moment among those of one answer."""
    return f"{video_id}:{round(1000 * moment.start_seconds)}"


def picked(found: SearchResult, picks: Sequence[str]) -> tuple[Moment, ...]:
    """The moments that were chosen; all if none was. Raises ConfigError if one of them is not among those found."""
    if not picks:
        return found.moments
    chosen = set(picks)
    here = tuple(moment for moment in found.moments if pick_of(found.videos[moment.uri].video_id, moment) in chosen)
    if len(here) < len(chosen):
        lost = f"{len(chosen) - len(here)} of the {len(chosen)} selected moments"
        raise ConfigError(f"{lost} are not found any more, as the index has changed; search again, and select anew")
    return here


def _more(asked: Asked, found: SearchResult) -> str | None:
    """The address of a longer answer, if there is one."""
    if found.total is not None and found.total <= len(found.moments):
        return None
    if asked.limit >= MOST:
        return None
    # Without script, the longer answer begins where this one ended.
    return f"{asked.with_(limit=min(asked.limit + SHOWN, MOST)).link()}#moment-{len(found.moments) + 1}"
