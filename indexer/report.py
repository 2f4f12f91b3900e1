"""What a run says while it works and when it ends: counts and stage seconds -> progress, JSON events, the end table.

Events (`--json`) are the only thing on stdout; everything for people goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from indexer.records import Failure, IndexedVideo, Outcome, Skipped

EVENT_VERSION = 1
UNSEEN_KEPT = 100
LINE_EVERY_SECONDS = 10.0
"""Where nobody watches a moving line, one plain line this often."""


@dataclass(slots=True)
class Tally:
    """The running sums of one run."""

    run_id: int | None = None
    recipe: str = ""
    found: int = 0
    unchanged: int = 0
    gone: int = 0
    indexed: int = 0
    failed: int = 0
    failed_before: int = 0
    """Of the failed: known failures, same bytes, not tried again."""
    skipped: int = 0
    to_do: int = 0
    """Videos that this run means to work on."""
    segments: int = 0
    clips: int = 0
    video_seconds: float = 0.0
    decoded_seconds: float = 0.0
    """Of video that this run decoded, also for videos that it did not finish."""
    fetched_bytes: int = 0
    """Of the videos that were decoded, from another machine."""
    fetched_of_bytes: int = 0
    """What those videos have, all in all: of a large object only the blocks that are needed are fetched."""
    fetch_wait_seconds: float = 0.0
    """How long all decoders together stood still for the blocks of large objects."""
    queue_bytes: int = 0
    """Of clips that wait in memory for a model now."""
    labels: Counter[str] = field(default_factory=Counter)
    """The best label of each segment that was indexed."""
    warnings: Counter[str] = field(default_factory=Counter)
    failure_codes: Counter[str] = field(default_factory=Counter)
    skip_reasons: Counter[str] = field(default_factory=Counter)
    unseen: tuple[Failure, ...] = ()
    """Of the failed: folders and videos that the listing could not look at, and whose results stay as they were."""
    stages: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("list", "read", "decode", "infer", "write", "commit"), 0.0)
    )
    began: float = field(default_factory=time.monotonic)

    startup_seconds: float = 0.0
    """Until the first clip had come out of the model: what a run costs before it works. 0: none has."""
    to_do_bytes: int = 0
    """Size of the videos that this run means to work on."""
    finished_bytes: int = 0
    """Of those that have an outcome."""
    finished: int = 0
    """Videos of `to_do` that have an outcome, which the next commit makes true. For showing progress."""
    finished_seconds: float = 0.0
    """Their length."""
    underway_bytes: float = 0.0
    """Of long videos without an outcome: what is done of them, by size."""
    underway_seconds: float = 0.0
    """The same by length."""
    failing: int = 0
    """Those of them that failed and that no commit has made true yet."""

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of one video that this run worked on."""
        match outcome:
            case IndexedVideo():
                self.indexed += 1
                self.segments += len(outcome.segments)
                self.clips += sum(segment.clips for segment in outcome.segments)
                self.video_seconds += outcome.info.duration_seconds
                self.warnings.update(outcome.warnings)
                self.labels.update(label for segment in outcome.segments for label in segment.labels[:1])
            case Failure():
                self.failed += 1
                self.failure_codes[outcome.code] += 1
            case Skipped():
                self.skipped += 1
                self.skip_reasons[outcome.reason] += 1

    @property
    def left(self) -> int:
        """Found, but neither done before nor now: the next run's work."""
        return self.found - self.indexed - self.unchanged - self.failed - self.skipped

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def done_bytes(self) -> float:
        return min(self.finished_bytes + self.underway_bytes, self.to_do_bytes)

    @property
    def done_seconds(self) -> float:
        """Of video, that of unfinished long ones included."""
        return self.finished_seconds + self.underway_seconds

    @property
    def seconds_left(self) -> float | None:
        """Until the work is done; None if nothing tells. By size: large videos come first, and no length is known before."""
        if not self.done_bytes:
            return None
        left_bytes = self.to_do_bytes - self.done_bytes
        return (self.wall_seconds - self.startup_seconds) / self.done_bytes * left_bytes

    def as_event(self, outcome: str) -> dict[str, Any]:
        """The `run_finished` event, which is also what the catalog keeps of a run."""
        return {
            "event": "run_finished",
            "version": EVENT_VERSION,
            "run_id": self.run_id,
            "outcome": outcome,
            "recipe": self.recipe,
            "videos": {
                "found": self.found,
                "indexed": self.indexed,
                "unchanged": self.unchanged,
                "failed": self.failed,
                "skipped": self.skipped,
                "gone": self.gone,
                "left": self.left,
            },
            "segments": self.segments,
            "clips": self.clips,
            "video_seconds": round(self.video_seconds, 3),
            "decoded_seconds": round(self.decoded_seconds, 3),
            "fetched_bytes": self.fetched_bytes,
            "fetched_of_bytes": self.fetched_of_bytes,
            "fetch_wait_seconds": round(self.fetch_wait_seconds, 3),
            "wall_seconds": round(self.wall_seconds, 3),
            "startup_seconds": round(self.startup_seconds, 3),
            "machine": this_machine(),
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.items()},
            "failures": dict(self.failure_codes),
            "unseen": [{"uri": one.video.uri, "code": one.code, "message": one.message} for one in self.unseen[:UNSEEN_KEPT]],
            "skips": dict(self.skip_reasons),
            "warnings": dict(self.warnings),
        }


def this_machine() -> dict[str, Any]:
    """Where a run is called from: how long others took elsewhere says little about here."""
    return {"host": os.uname().nodename, "cpus": os.cpu_count()}


class Reporter(Protocol):
    """Shows a run to somebody."""

    def note(self, text: str) -> None:
        """One line about what happens now."""
        ...

    def warn(self, text: str) -> None: ...

    def started(self, tally: Tally) -> None:
        """The plan is known; work begins."""
        ...

    def outcome(self, outcome: Outcome) -> None:
        """A video ended, and its end is committed."""
        ...

    def progress(self, tally: Tally) -> None:
        """Called about twice a second."""
        ...

    def finished(self, tally: Tally, outcome: str) -> None: ...

    def failed(self, message: str, exit_code: int) -> None:
        """The run could not go on."""
        ...


class JsonReporter:
    """One JSON object a line; `run_finished` is the last one, however the run ends."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._tally = Tally()
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS

    def note(self, text: str) -> None:
        """Notes are for people."""

    def warn(self, text: str) -> None:
        self._write({"event": "warning", "message": text})

    def started(self, tally: Tally) -> None:
        self._tally = tally
        self._write(
            {
                "event": "run_started",
                "version": EVENT_VERSION,
                "run_id": tally.run_id,
                "recipe": tally.recipe,
                "videos": {"found": tally.found, "unchanged": tally.unchanged, "gone": tally.gone, "to_do": tally.to_do},
            }
        )

    def outcome(self, outcome: Outcome) -> None:
        event: dict[str, Any] = {"uri": outcome.video.uri}
        match outcome:
            case IndexedVideo():
                event |= {"event": "video_done", "segments": len(outcome.segments), "warnings": list(outcome.warnings)}
            case Failure():
                event |= {"event": "video_failed", "code": outcome.code, "message": outcome.message}
            case Skipped():
                event |= {"event": "video_skipped", "reason": outcome.reason}
        self._write(event)

    def progress(self, tally: Tally) -> None:
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            event = {
                "event": "progress",
                "done": tally.finished,
                "to_do": tally.to_do,
                "failed": tally.failed + tally.failing,
                "video_seconds": round(tally.done_seconds, 3),
            }
            self._write(event)

    def finished(self, tally: Tally, outcome: str) -> None:
        self._write(tally.as_event(outcome))

    def failed(self, message: str, exit_code: int) -> None:
        self._write(self._tally.as_event("failed") | {"message": message, "exit_code": exit_code})
        print(message, file=sys.stderr)  # noqa: T201  people read logs, too

    def _write(self, event: dict[str, Any]) -> None:
        self._out.write(json.dumps(event, ensure_ascii=False, default=str) + "\n")
        self._out.flush()
