"""`indexer serve`: the search page of a job's index, until it is stopped."""

from __future__ import annotations

import ipaddress
import json
import logging
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette

from indexer.config import load_job
from indexer.errors import ConfigError
from indexer.index import current_recipe, open_index
from indexer.search.semantic import sentence_model
from indexer.serve.app import make_app
from indexer.serve.archive import Archive
from indexer.serve.awaited import AwaitedApp
from indexer.serve.gate import Gate
from indexer.views import complain

_STOP_SECONDS = 2


def serve(
    path: Path, *, host: str, port: int, names: Sequence[str], token: str | None, semantic: str | None, as_json: bool
) -> None:
    """Serve the index of the job at `path`. An address that others reach needs a token: without one, one is made.

    `semantic` is the folder of a sentence-embedding model; None: the one that INDEXER_SEMANTIC names, if any.

    Before the first run there is only a page that says so. Raises ConfigError if the address cannot be had.
    """
    if token is None and not _is_loopback(host):
        token = secrets.token_urlsafe(24)
    if token is not None and not (token.isascii() and token.isprintable() and len(token) >= 16):
        raise ConfigError("--token: write at least 16 ASCII characters; without --token a good one is made")
    job, model = load_job(path), sentence_model(semantic)
    known = {"localhost", host, socket.gethostname(), *names}

    def find() -> Starlette | None:
        engine = open_index(job)
        if engine is None:
            return None
        return make_app(Archive(job, engine, current_recipe(job, engine), semantic=model), names=known, token=token)

    app = find() or Gate(AwaitedApp(job.name, find), names=known, token=token)
    with _listening(host, port) as listener:
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        reached = socket.gethostname() if host in ("0.0.0.0", "::") else shown
        secret = f"?{urlencode({'token': token})}" if token else ""
        address = f"http://{reached}:{bound}/{secret}"
        if as_json:
            print(json.dumps({"job": job.name, "address": address}), flush=True)  # noqa: T201
        complain(f"the search page of {job.name}: {address}   (stop with Ctrl-C)")
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        # Addresses hold queries, and once the token: none of them is logged.
        config = uvicorn.Config(
            app, access_log=False, log_config=None, server_header=False, timeout_graceful_shutdown=_STOP_SECONDS
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}; choose another port, such as --port 0") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
