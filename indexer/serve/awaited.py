"""The page of an index that is not there yet: it says so, looks for it at each visit, and then is the index's own page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from html import escape

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from indexer.errors import StopRun

_AGAIN_SECONDS = 15
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="{again}">
<title>{name}</title><h1>{name}: there is no index yet</h1><p>{sentence}</p></html>
"""


class AwaitedApp:
    """ASGI. Who may ask is not decided here: put it behind a gate."""

    def __init__(self, name: str, find: Callable[[], Starlette | None]) -> None:
        """`find` gives the application, or None if there is none yet. It may raise StopRun, whose sentence is shown."""
        self._name, self._find = name, find
        self._found: Starlette | None = None
        self._one_at_a_time = asyncio.Lock()
        self._begun = AsyncExitStack()
        self._lifespan = Starlette(lifespan=self._live)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        try:
            app = await self._look()
        except StopRun as error:
            await self._say(scope, str(error), 503)(scope, receive, send)
            return
        if app is None:
            sentence = f"The first run of {self._name} makes it, and is not that far yet. This page looks again by itself."
            await self._say(scope, sentence, 200 if scope["path"] == "/" else 503)(scope, receive, send)
            return
        await app(scope, receive, send)

    async def _look(self) -> Starlette | None:
        async with self._one_at_a_time:
            if self._found is None and (found := await run_in_threadpool(self._find)):
                await self._begun.enter_async_context(found.router.lifespan_context(found))
                self._found = found
        return self._found

    def _say(self, scope: Scope, sentence: str, status: int) -> Response:
        headers = {"cache-control": "no-store", "retry-after": str(_AGAIN_SECONDS)}
        if scope["path"].startswith("/api/"):
            return JSONResponse({"error": sentence}, status, headers)
        page = _PAGE.format(again=_AGAIN_SECONDS, name=escape(self._name), sentence=escape(sentence))
        return HTMLResponse(page, status, headers)

    @asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncIterator[None]:
        async with self._begun:
            yield
