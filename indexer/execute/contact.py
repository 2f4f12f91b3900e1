"""Whether this process and a cluster can talk to each other, go on doing so, and mean the same. Knows nothing of Ray."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from indexer.config import Job
from indexer.errors import ExecutionError

CONNECT_SECONDS = 10.0
"""For a cluster to answer at all."""
PROBE_SECONDS = 5.0
"""Between two looks at the head of Ray."""
ANSWER_SECONDS = 2.0
GONE_SECONDS = 30.0
"""A head that is silent for so long is gone. After a minute Ray itself ends this process, whatever it has in its hands."""
SAME_EVERYWHERE = ("indexer", "torch", "torchvision", "av", "numpy")
"""Packages of which another version may mean other rows."""


def check_reachable(address: str) -> None:
    """Raises ExecutionError if nobody listens at `address`. Ray itself would try for a quarter of an hour."""
    place = _host_and_port(address)
    if place is not None:
        try:
            socket.create_connection(place, timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise ExecutionError(f"ray.address: nothing answers at {address}: {error.strerror or error}") from error


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


class Contact:
    """With the head of Ray, at `address`."""

    def __init__(self, address: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = _host_and_port(address)
        self._clock = clock
        self._looked = self._heard = clock()

    def answers(self) -> bool:
        """Whether it does now. Asking Ray instead would wait for a head that is gone, until Ray ends this process."""
        return self._place is None or answers(*self._place)

    def check(self) -> None:
        """Raises ExecutionError if the head has been silent for too long. Costs nothing most of the time."""
        now = self._clock()
        if now - self._looked < PROBE_SECONDS:
            return
        if self.answers():
            self._heard = now
        elif now - self._heard > GONE_SECONDS:
            raise ExecutionError("Ray itself is gone: its head does not answer. Finished videos are safe; run it again.")
        self._looked = self._clock()


def versions() -> dict[str, str]:
    """Of what must be the same on all machines. Runs on each of them."""
    found = {"Python": platform.python_version()}
    for package in SAME_EVERYWHERE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def check_versions(here: Mapping[str, str], elsewhere: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Raises ExecutionError if a machine, by its name, has others than this one."""
    differences = [
        f"{what} {theirs[what]} on {machine}, {ours} here"
        for machine, theirs in elsewhere
        for what, ours in here.items()
        if theirs[what] != ours
    ]
    if differences:
        raise ExecutionError(f"the same must be installed on all machines of the cluster, but: {'; '.join(differences)}")


def authentication_hint(job: Job) -> str:
    """What is most often wrong with joining a cluster."""
    if job.ray.address is None:
        return ""
    mode = os.environ.get("RAY_AUTH_MODE", "disabled")
    return (
        f" Ray's token authentication is {'on' if mode == 'token' else 'off'} here (RAY_AUTH_MODE={mode});"
        " it must be the same in the cluster, with the same token."
    )


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else None
