"""S3 for tests: a server of the real protocol in a process of its own, and before it a proxy that does what networks do.

    def test_x(s3):
        s3.put("a.mp4", b"...")
        s3.proxy.plan = lambda request: Status(503, "SlowDown") if request.number == 1 else None

Faults are for the program only; `s3.put` and its like go to the server directly.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from indexer.storage.s3.client import S3


@dataclass(frozen=True)
class Request:
    """What the program asks."""

    number: int
    """From 1."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""

    @property
    def key(self) -> str:
        return self.path.split("/", 2)[2] if self.path.count("/") > 1 else ""

    @property
    def is_list(self) -> bool:
        return "list-type" in self.query

    @property
    def is_body(self) -> bool:
        """Whether it asks for the content of an object."""
        return self.method == "GET" and not self.is_list


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Status:
    """An error instead of an answer; the server never hears of the request."""

    status: int
    code: str


@dataclass(frozen=True)
class Reset:
    """The connection breaks; before the server heard of the request, or `late`, when it has done it."""

    late: bool = False


@dataclass(frozen=True)
class Cut:
    """The body ends after a share of it, though its length was announced; `reset` loses what was on its way too."""

    share: float = 0.7
    reset: bool = False


@dataclass(frozen=True)
class Slow:
    """The body comes in drops."""

    drop_bytes: int = 1024
    pause_seconds: float = 0.02


@dataclass(frozen=True)
class Edit:
    """Another answer than the server's."""

    edit: Callable[[Answer], None]


Fault = Status | Reset | Cut | Slow | Edit
Plan = Callable[[Request], Fault | None]


class FaultProxy:
    """An S3 endpoint that hands every request on to another one, unless the plan has a fault for it."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self.reset()
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def reset(self) -> None:
        self.plan: Plan = lambda request: None
        self.requests: list[Request] = []
        self.body_bytes = 0
        """Of objects, sent to the program so far."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def note(self, method: str, target: str, headers: dict[str, str]) -> Request:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self._lock:
            request = Request(len(self.requests) + 1, method, unquote(parts.path), query, headers)
            self.requests.append(request)
        return request

    def sent(self, count: int) -> None:
        with self._lock:
            self.body_bytes += count

    def forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=30)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()


_HOP_BY_HOP = {"connection", "keep-alive", "server", "date", "transfer-encoding"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without a polite goodbye, so that Reset is one

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The program hung up, as it may."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = self.proxy.note(self.command, self.path, headers)
        fault = self.proxy.plan(request)
        if isinstance(fault, Status):
            text = f"<Error><Code>{fault.code}</Code><Message>planned {fault.code}</Message></Error>"
            self._send(request, Answer(fault.status, {"Content-Type": "application/xml"}, text.encode()), None)
            return
        if isinstance(fault, Reset) and not fault.late:
            self._reset()
            return
        answer = self.proxy.forward(self.command, self.path, headers, body)
        if isinstance(fault, Reset):
            self._reset()
            return
        if isinstance(fault, Edit):
            fault.edit(answer)
        self._send(request, answer, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _send(self, request: Request, answer: Answer, fault: Fault | None) -> None:
        self.send_response_only(answer.status)
        length = {} if request.method == "HEAD" else {"Content-Length": str(len(answer.body))}
        for name, value in (answer.headers | length).items():
            self.send_header(name, value)
        self.end_headers()
        body = b"" if request.method == "HEAD" else answer.body
        if isinstance(fault, Cut):
            body = body[: int(len(body) * fault.share)]
        step = fault.drop_bytes if isinstance(fault, Slow) else len(body) or 1
        for first in range(0, len(body), step):
            self.wfile.write(body[first : first + step])
            if request.is_body:
                self.proxy.sent(len(body[first : first + step]))
            if isinstance(fault, Slow):
                time.sleep(fault.pause_seconds)
        if isinstance(fault, Cut):
            self.close_connection = True
            if fault.reset:
                self._reset()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class S3Place:
    """A bucket of one test."""

    bucket: str
    proxy: FaultProxy
    client: Any
    """Goes to the server, past the proxy."""
    hasty: S3
    """Through the proxy, and quick to give up."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    def put(self, key: str, content: bytes = b"video", **arguments: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **arguments)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def listed(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def running_server() -> Iterator[int]:
    """The port of an S3 server without any faults. It ends with this process, however that ends."""
    command = [sys.executable, "-m", "tests.s3"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[int]:
    with running_server() as port:
        yield port


@pytest.fixture(scope="session")
def s3_connections(s3_server: int) -> Iterator[tuple[FaultProxy, Any, S3]]:
    """The proxy, a client that goes past it, and a connection through it that is not patient. They are slow to make."""
    import boto3.session  # half a second, which sessions without this fixture do without

    from indexer.storage.s3.client import S3, Patience

    proxy = FaultProxy(s3_server)
    with pytest.MonkeyPatch.context() as patch:
        _set_environment(patch, proxy.url)
        client = boto3.session.Session(region_name="us-east-1").client("s3", endpoint_url=f"http://127.0.0.1:{s3_server}")
        hasty = S3(patience=Patience(give_up_seconds=0.3, window_seconds=0.2, longest_pause_seconds=0.1))
    yield proxy, client, hasty
    client.close()
    proxy.close()


@pytest.fixture
def s3(s3_connections: tuple[FaultProxy, Any, S3], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Place]:
    """A new bucket. The program finds it as it would find any: by the environment."""
    proxy, client, hasty = s3_connections
    _set_environment(monkeypatch, proxy.url)
    monkeypatch.setenv("INDEXER_SCRATCH", str(tmp_path))
    proxy.reset()
    place = S3Place(f"bucket-{uuid.uuid4().hex[:12]}", proxy, client, hasty)
    client.create_bucket(Bucket=place.bucket)
    yield place
    proxy.reset()


def environment(endpoint: str) -> dict[str, str]:
    """AWS settings that lead to `endpoint`, and nothing of this machine's own."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def _set_environment(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in environment(endpoint).items():
        patch.setenv(name, value)


def _serve() -> None:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve()
