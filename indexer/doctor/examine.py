"""Does all checks, each in a process of its own: one that crashes or hangs costs its own line."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import NoReturn

from indexer.config import Job
from indexer.doctor import machine, places
from indexer.doctor.findings import Finding, failed
from indexer.errors import StopRun
from indexer.storage.address import is_s3

Check = Callable[[], Finding]

EXIT_CODES = {"source": 10, "output": 14, "conditional": 14, "cache": 14, "catalog": 13, "weights": 15}
"""Of a check that hangs, crashes or meets what it does not know; 1 for the others."""
UNEXPLAINED = 0
MOST_MESSAGE = 2_000
"""Characters: an answer must fit into a pipe that nobody reads yet."""


def checks_for(job: Job | None) -> dict[str, Check]:
    """Name -> check, in the order in which they are shown."""
    found: dict[str, Check] = {
        check.__name__: partial(check, job)
        for check in (
            *(machine.python, machine.packages, machine.decoders, machine.gpu, machine.ray, machine.scratch, machine.cache),
        )
    }
    if job is not None:
        named = [places.source, places.output, places.catalog, places.weights]
        named += [places.conditional] if is_s3(job.output.uri) else []
        found |= {check.__name__: partial(check, job) for check in named}
    return found


def examine(checks: dict[str, Check], *, limit_seconds: float) -> Iterator[tuple[str, Finding]]:
    """All at once, in their order. One that gives no answer within the limit is killed."""
    deadline = time.monotonic() + limit_seconds
    running = {name: _started(check) for name, check in checks.items()}
    for name, (process, pipe) in running.items():
        finding = _answer(process, pipe, deadline, limit_seconds)
        if finding.state == "failed" and finding.exit_code == UNEXPLAINED:
            finding = replace(finding, exit_code=EXIT_CODES.get(name, 1))
        yield name, finding


def _started(check: Check) -> tuple[int, int]:
    """Process id, and the pipe that its answer comes through."""
    ours, theirs = os.pipe()
    process = os.fork()  # not multiprocessing: at its end that waits for ever for a process that waits for a dead disk
    if process == 0:
        os.close(ours)
        _do(check, theirs)
    os.close(theirs)
    return process, ours


def _do(check: Check, pipe: int) -> NoReturn:
    """In the process of a check."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):  # what libraries print is not for the user
            os.dup2(nowhere, number)
        try:
            finding = check()
        except StopRun as error:
            finding = failed(str(error), exit_code=error.exit_code)
        except Exception as error:  # noqa: BLE001  a check may meet anything, and the others go on
            finding = failed(f"could not be checked: {type(error).__name__}: {error}", exit_code=UNEXPLAINED)
        finding = replace(finding, message=finding.message[:MOST_MESSAGE])
        os.write(pipe, json.dumps(asdict(finding)).encode())
    finally:
        os._exit(0)


def _answer(process: int, pipe: int, deadline: float, limit_seconds: float) -> Finding:
    with open(pipe, "rb") as stream:
        if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, os.WNOHANG)
            fix = "Is a disk, a server or the network away? --timeout sets the limit."
            return failed(f"no answer in {limit_seconds:g} seconds", fix, exit_code=UNEXPLAINED)
        said = stream.read()
    status = os.waitpid(process, 0)[1]
    if not said:
        died = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        return failed(f"the check crashed ({died}): a library is broken", machine.INSTALL, exit_code=UNEXPLAINED)
    return Finding(**json.loads(said))
