"""Tells webhooks how a run goes: JSON with the event, and a `text` that chat programs such as Slack show as it is.

In a thread of its own, with few tries: a receiver that is slow or away costs the run GRACE_SECONDS at its end, at most.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from indexer.config import Job
from indexer.errors import RunHeld
from indexer.observe.listeners import Silent
from indexer.report import Tally

TRIES = 3
PAUSE_SECONDS = 0.5
"""Before the second try; twice as long before the next."""
TIMEOUT_SECONDS = 3.0
GRACE_SECONDS = 8.0


class Webhooks(Silent):
    """See `Reporter` for the contract."""

    def __init__(self, job: Job, warn: Callable[[str], None]) -> None:
        self._job = job.name
        self._addresses = job.monitor.notify
        self._wanted = set(job.monitor.notify_on)
        self._warn = warn
        self._threads: list[threading.Thread] = []
        self._complaints: list[str] = []

    def started(self, tally: Tally) -> None:
        if "start" in self._wanted:
            text = f"{self._job}: run {tally.run_id} has begun: {tally.to_do} of {tally.found} videos to index"
            self._tell({"event": "run_started", "run_id": tally.run_id, "text": text})

    def finished(self, tally: Tally, outcome: str) -> None:
        if outcome in self._wanted:
            text = (
                f"{self._job}: run {tally.run_id} is {outcome}: {tally.indexed} videos indexed, {tally.unchanged} unchanged, "
                f"{tally.failed} failed, {tally.left} left, in {tally.wall_seconds:.0f} s"
            )
            self._tell(tally.as_event(outcome) | {"text": text})
        self._wait()

    def failed(self, message: str, exit_code: int) -> None:
        if "failed" in self._wanted and exit_code != RunHeld.exit_code:  # another run is at work: the job is well
            text = f"{self._job}: the run could not go on (exit code {exit_code}): {message}"
            self._tell({"event": "run_failed", "exit_code": exit_code, "message": message, "text": text})
        self._wait()

    def stale(self, sentence: str, *, last_success: float | None, max_age_seconds: float) -> None:
        """No run has ended well for `max_age_seconds`; the last one that did, if any, at the Unix time `last_success`."""
        if "stale" in self._wanted:
            event = {"event": "stale", "last_success": last_success, "max_age_seconds": max_age_seconds}
            self._tell(event | {"text": f"{self._job}: {sentence}"})
        self._wait()

    def _tell(self, event: dict[str, Any]) -> None:
        body = json.dumps({"job": self._job} | event, default=str).encode()
        for address in self._addresses:
            thread = threading.Thread(target=self._post, args=(address, body), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _post(self, address: str, body: bytes) -> None:
        for number in range(TRIES):
            time.sleep(PAUSE_SECONDS * (2**number - 1))
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
                    return
            except (OSError, HTTPException) as error:
                # The path of a webhook is its password: only the host is told.
                reason = f"it answers {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        self._complaints.append(f"the webhook at {urlsplit(address).hostname} was not told (monitor.notify): {reason}")

    def _wait(self) -> None:
        give_up = time.monotonic() + GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._complaints.append(f"a webhook did not answer within {GRACE_SECONDS:g} s (monitor.notify)")
        for complaint in self._complaints:
            self._warn(complaint)
