"""Who may ask, and what a browser may do with the answer.

A page of somebody else's can make a browser ask servers of this machine (by a name that suddenly means 127.0.0.1). So a
request must name us by a name of ours. It can also have the browser ask for what costs us work, by our own name: so what is no
page is given to our own pages only, as far as the browser says who asks. On an address that others reach, a request must also
know the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGES = re.compile(r"/|/video/[0-9]+|/runs")
"""What links of other sites may lead to."""

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
"""What pages may load. A page may say more of it by itself."""
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""A run's report is one file with its style inside, and needs nothing else."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>indexer</title>
<h1>This search page needs its token</h1>
<p>It was printed when the page was started. Programs send it as <code>Authorization: Bearer TOKEN</code>.</p>
<form action="/" method="get"><label>Token <input name="token" type="password" required autofocus></label>
<button>Open</button></form></html>
"""


class Gate:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str], token: str | None) -> None:
        """`names` are those that a Host header may have, beside addresses in numbers, which nobody can give away."""
        self._app = app
        self._names = {name.lower() for name in names}
        self._token = token
        # Browsers give a host's cookies to all its ports: each page has one of its own.
        self._cookie_name = f"indexer_{hashlib.sha256((token or '').encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("content-security-policy", POLICY)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead; None if the request may go on."""
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        if not self._is_ours(headers.get("host", "")):
            return PlainTextResponse("This server does not go by that name; start it with --name to allow it.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("There is nothing to change here.\n", 405, {"allow": "GET, HEAD"})
        if not _is_welcome(headers, scope["path"]):
            return PlainTextResponse("Another site asked for this; open the page itself.\n", 403)
        if self._token is None:
            return None
        if given := query.get("token"):
            if not self._is_token(given):
                return Response(_LOCKED, 401, media_type="text/html")
            rest = urlencode([(key, value) for key, value in query.multi_items() if key != "token"])
            # Two slashes would lead to another server.
            there = "/" + scope["path"].lstrip("/\\")
            answer = RedirectResponse(f"{there}?{rest}" if rest else there, 303, {"cache-control": "no-store"})
            answer.set_cookie(self._cookie_name, given, httponly=True, samesite="lax", max_age=30 * 86400)
            return answer
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if self._is_token(HTTPConnection(scope).cookies.get(self._cookie_name, "")) or (
            scheme.lower() == "bearer" and self._is_token(bearer.strip())
        ):
            return None
        return Response(_LOCKED, 401, {"www-authenticate": "Bearer", "cache-control": "no-store"}, media_type="text/html")

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _is_ours(self, host: str) -> bool:
        name, port = host, ""
        if not host.endswith("]") and ":" in host:
            name, _, port = host.rpartition(":")
        if port and not port.isdigit():
            return False
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.lower().removesuffix(".") in self._names
        return True


def _is_welcome(headers: Headers, path: str) -> bool:
    """Whether it is one of our pages that asks, or somebody who follows a link to one. Programs do not say, and may ask."""
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return True
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return followed and _PAGES.fullmatch(path) is not None
