"""Addresses -> answers.

/                          the search, its answer, and what there is to be found
/video/3?t=12.5            a video at a moment                  /media/3, /copy/3/12000-42000.mp4, /frame/3/12500.jpg
/runs                      what was indexed, and what not       /runs/17.html is the report of one run
/export.csv                the answer for other programs; also .m3u .edl .json .otio
/api/labels /api/suggest /api/search /api/runs
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from indexer.errors import ConfigError, StopRun, VideoError, VideoSkip
from indexer.search.export import FORMATS, export_as
from indexer.search.parse import LONGEST
from indexer.search.query import as_typed
from indexer.search.suggest import completed, suggestions
from indexer.serve import pages
from indexer.serve.archive import Archive, ShownVideo
from indexer.serve.asked import MOST, Asked, asked_by
from indexer.serve.darkroom import Darkrooms
from indexer.serve.gate import REPORT_POLICY, Gate
from indexer.serve.media import OpenFileResponse, link_inside, open_inside
from indexer.serve.pictures import COPY_SECONDS, Copies, Made, Pictures, TooBusy
from indexer.storage.address import is_s3
from indexer.storage.copies import copies_folder

SUGGESTED = 8
"""Labels that a phrase means, while it is typed; those with the words in their names are on the page already."""
_LATEST_MS = 2**31 - 1
_LOOK_SECONDS = 0.25
"""How often it is looked whether a browser still waits for a picture."""
_GONE = 499
"""A status that nobody sees, as servers use it."""

_KINDS = {
    "csv": "text/csv",
    "json": "application/json",
    "m3u": "audio/x-mpegurl",
    "edl": "text/plain",
    "otio": "application/json",
}

_STATIC = Path(__file__).parent / "static"


def make_app(
    archive: Archive, *, names: Iterable[str] = ("localhost",), token: str | None = None, copies: Path | None = None
) -> Starlette:
    """`names` may stand in Host headers; with `token`, whoever asks must know it; `copies` is a folder for small copies."""
    job = archive.job
    darkrooms = Darkrooms(job.source.uri, max_pixels=job.decode.max_pixels, timeout_seconds=job.decode.timeout)
    pictures, small_copies = Pictures(darkrooms), Copies(darkrooms, copies or copies_folder())

    def search_page(request: Request) -> Response:
        asked = Asked(q=request.query_params.get("q", "").strip()[:LONGEST])
        try:
            asked = asked_by(request.query_params)
            found = archive.search(asked) if asked.is_search else None
        except ConfigError as error:
            return pages.search(archive, asked.with_(q=asked.q[:LONGEST]), None, problem=error, status=400)
        return pages.search(archive, asked, found)

    def video_page(request: Request) -> Response:
        query = request.query_params
        asked, shown = asked_by(query), _video(archive, request)
        number = query.get("n", "")
        return pages.video(
            archive,
            asked,
            shown,
            _milliseconds(query.get("t", "0")),
            number=min(int(number), MOST) if number.isascii() and number.isdigit() and len(number) < 10 else 0,
            small=query.get("small") == "1",
        )

    def runs_page(request: Request) -> Response:
        return pages.runs(archive)

    def report(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        page = archive.report(run_id) if run_id <= _LATEST_MS else None
        if page is None:
            raise HTTPException(404, f"There is no report of run {run_id}; those of the last runs are kept.")
        return Response(page, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    def media(request: Request) -> Response:
        shown = _video(archive, request)
        if is_s3(shown.video.uri):
            link = link_inside(job.source.uri, shown.video, owner=shown.owner)
            return RedirectResponse(link, 307, {"cache-control": "no-store"})
        file = open_inside(job.source.uri, shown.video.uri, owner=shown.owner)
        return OpenFileResponse(file, shown.video.uri)

    async def copy(request: Request) -> Response:
        shown = await run_in_threadpool(_video, archive, request)
        start_ms, end_ms = request.path_params["start_ms"], request.path_params["end_ms"]
        if not start_ms < end_ms <= min(start_ms + 1000 * COPY_SECONDS, _LATEST_MS):
            raise ConfigError(f"a small copy is at most {COPY_SECONDS} seconds long")
        path = await _while_wanted(request, small_copies.get(shown, start_ms, end_ms))
        return FileResponse(path, media_type="video/mp4", headers={"cache-control": "private, max-age=3600"})

    async def frame(request: Request) -> Response:
        try:
            shown = await run_in_threadpool(_video, archive, request)
            picture = await _while_wanted(request, pictures.get(shown, min(request.path_params["at_ms"], _LATEST_MS)))
        except (VideoError, VideoSkip, StopRun, HTTPException):
            return FileResponse(_STATIC / "nothing.svg", 404, {"cache-control": "private, max-age=60"})
        return Response(picture, headers={"cache-control": "private, max-age=3600"}, media_type="image/jpeg")

    def export(request: Request) -> Response:
        form = request.path_params["form"]
        if form not in FORMATS:
            raise HTTPException(404, f"allowed: {', '.join(FORMATS)}")
        asked = asked_by(request.query_params)
        if not asked.is_search:
            raise ConfigError("there is nothing to export: give the query as q")
        found = archive.search(asked, limit=pages.exported(form))
        if found.complaint:
            raise ConfigError(found.complaint)
        chosen = pages.picked(found, request.query_params.getlist("pick"))
        text = export_as(form, replace(found, moments=chosen))
        headers = {"content-disposition": f'attachment; filename="moments.{form}"'}
        return Response(text, headers=headers, media_type=_KINDS[form])

    def api_search(request: Request) -> Response:
        found = archive.search(asked_by(request.query_params))
        document = found.as_document()
        for moment in document["moments"]:
            moment["video_id"] = found.videos[moment["uri"]].video_id
        return JSONResponse(document)

    def api_labels(request: Request) -> Response:
        return JSONResponse([{"label": name, "segments": count} for name, count in archive.labels()])

    def api_suggest(request: Request) -> Response:
        counts, typed = dict(archive.labels()), request.query_params.get("q", "")[:LONGEST]
        return JSONResponse([
            {
                "label": label,
                "typed": as_typed(label),
                "query": completed(typed, label),
                "phrase": phrase,
                "segments": counts[label],
            }
            for label, phrase in suggestions(typed, counts, SUGGESTED)
        ])  # fmt: skip

    def api_runs(request: Request) -> Response:
        document = {
            "coverage": archive.coverage().as_document(),
            "runs": [asdict(run) for run in archive.runs()],
            "failures": [asdict(group) for group in archive.failures()],
        }
        return JSONResponse(document)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        pictures.close()
        small_copies.close()
        darkrooms.close()

    return Starlette(
        routes=[
            Route("/", search_page),
            Route("/video/{video_id:int}", video_page),
            Route("/media/{video_id:int}", media),
            Route("/copy/{video_id:int}/{start_ms:int}-{end_ms:int}.mp4", copy),
            Route("/frame/{video_id:int}/{at_ms:int}.jpg", frame),
            Route("/export.{form}", export),
            Route("/runs", runs_page),
            Route("/runs/{run_id:int}.html", report),
            Route("/api/search", api_search),
            Route("/api/labels", api_labels),
            Route("/api/suggest", api_suggest),
            Route("/api/runs", api_runs),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Gate, names=names, token=token)],
        exception_handlers={
            kind: partial(_problem, archive) for kind in (HTTPException, StopRun, VideoError, VideoSkip, TooBusy)
        },
        lifespan=lifespan,
    )


def _video(archive: Archive, request: Request) -> ShownVideo:
    video_id = request.path_params["video_id"]
    shown = archive.video(video_id) if video_id <= _LATEST_MS else None
    if shown is None:
        raise HTTPException(404, f"There is no video {video_id}. It may have left the source since.")
    return shown


async def _while_wanted(request: Request, making: Coroutine[Any, Any, Made]) -> Made:
    """What is made, unless the browser goes away meanwhile: a pointer that has left its card wants no copy any more."""
    task = asyncio.create_task(making)
    while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
        if await request.is_disconnected():
            task.cancel()
            await asyncio.wait({task})
            raise HTTPException(_GONE, "Nobody waits for it any more.")
    return task.result()


def _milliseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LATEST_MS / 1000:
        raise ConfigError(f"t: {text[:40]!r} is no time in a video; write seconds, such as 12.5")
    return round(1000 * seconds)


def _problem(archive: Archive, request: Request, error: Exception) -> Response:
    if isinstance(error, TooBusy):
        busy = _say(archive, request, 503, "Too many pictures are being made at the moment; try again soon.")
        busy.headers["retry-after"] = "5"
        return busy
    if isinstance(error, HTTPException):
        return _say(archive, request, error.status_code, error.detail)
    if isinstance(error, (VideoError, VideoSkip)):
        return _say(archive, request, 404, f"The video {error}.")
    return _say(archive, request, 400 if isinstance(error, ConfigError) else 503, str(error))


def _say(archive: Archive, request: Request, status: int, sentence: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": sentence}, status)
    return pages.problem(archive, sentence, status)
