"""The figures of a run for those who watch many runs: one list, for the metrics file and for Ray's metrics alike.

All are gauges: a run is an event, not a service.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from indexer.report import Tally

GOOD = ("complete", "partial")
"""How a run ends that counts as a success."""
STATES = ("running", *GOOD, "stopped", "failed")
LAST_SUCCESS = "indexer_last_success_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric with all its values of this moment."""

    name: str
    description: str
    values: Mapping[str, float]
    """By the value of `label`; without one there is a single value, under the empty text."""
    label: str | None = None
    """What tells the values apart, besides the job."""


def figures(tally: Tally | None, state: str, *, last_success: float | None) -> Iterator[Figure]:
    """What is known now. `tally` is None where a run failed before it had one; `last_success` is a Unix time, or None."""
    yield Figure("indexer_run_state", "1 for the state of the last run.", {each: each == state for each in STATES}, "state")
    yield Figure("indexer_run_timestamp_seconds", "When this was written.", {"": time.time()})
    if last_success is not None:
        yield Figure(LAST_SUCCESS, "When a run last ended complete or partial.", {"": last_success})
    if tally is None:
        return
    event = tally.as_event(state)
    yield Figure("indexer_videos", "Videos of the source, by what became of them.", event["videos"], "state")
    yield Figure("indexer_failures", "Failed videos of the run, by code.", event["failures"], "code")
    yield Figure("indexer_stage_seconds", "Busy seconds of the run, all workers.", event["stages"], "stage")
    queue_bytes = tally.queue_bytes if state == "running" else 0
    yield Figure("indexer_queue_bytes", "Clips in memory, between decoders and models.", {"": queue_bytes})
    for name in ("segments", "clips", "video_seconds", "decoded_seconds", "wall_seconds"):
        yield Figure(f"indexer_run_{name}", f"{name} of the run, as in its report.", {"": event[name]})
