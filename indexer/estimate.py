"""What planned work will cost: hours of video from the headers of a sample, time and bytes from earlier runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from sqlalchemy import Engine

from indexer.catalog import lookup
from indexer.config import Job
from indexer.decode.probe import open_video
from indexer.errors import VideoError, VideoSkip
from indexer.records import Recipe, Video
from indexer.report import this_machine
from indexer.storage.fetch import video_file

SAMPLE_VIDEOS = 24
"""So many headers are read; with no more videos than this the sum is exact."""
RUNS_LOOKED_AT = 20
_HIT_BYTES = 24
"""One label of one segment in the SQLite catalog, indexes included."""
_SEGMENT_BYTES = 2_000
"""One row of a part where no earlier run tells: an embedding of 512 to 1024 halves, and the rest."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one run. None: nothing known yet to estimate it from."""

    video_seconds: float
    sampled: int
    """Videos whose headers were read."""
    segments: int
    wall_seconds: float | None
    index_bytes: int


@dataclass(frozen=True, slots=True)
class PastRun:
    """What one run has taken."""

    video_seconds: float
    wall_seconds: float
    startup_seconds: float
    """Of the wall seconds; 0 if it is not known."""


def estimate(work: Sequence[Video], job: Job, engine: Engine | None, recipe: Recipe) -> Estimate:
    """Reads some headers, changes nothing."""
    video_seconds, sampled = _length(work, job.decode.max_pixels)
    segments = math.ceil(video_seconds / job.sampling.segment)
    wall_seconds, row_bytes = None, float(_SEGMENT_BYTES)
    recipe_id = None if engine is None else lookup.find_recipe(engine, recipe.digest)
    if engine is not None and recipe_id is not None:
        wall_seconds = _wall_seconds(engine, job.name, recipe_id, video_seconds)
        known = lookup.totals(engine, recipe_id)
        if known.segments:
            row_bytes = known.part_bytes / known.segments
    index_bytes = round(segments * (row_bytes + job.output.top_k * _HIT_BYTES))
    return Estimate(video_seconds, sampled, segments, wall_seconds, index_bytes)


def _length(work: Sequence[Video], max_pixels: int) -> tuple[float, int]:
    """Seconds of all videos, from the headers of some of every size, each standing for the bytes around it."""
    by_size = sorted(work, key=lambda video: video.size_bytes)
    step = max(1, math.ceil(len(by_size) / SAMPLE_VIDEOS))
    seconds, sampled = 0.0, 0
    for first in range(0, len(by_size), step):
        group = by_size[first : first + step]
        middle = group[len(group) // 2]
        length = _header_seconds(middle, max_pixels)
        sampled += 1
        if middle.size_bytes:
            seconds += length * sum(video.size_bytes for video in group) / middle.size_bytes
    return seconds, sampled


def _header_seconds(video: Video, max_pixels: int) -> float:
    """0 for a video that cannot be indexed: it will cost next to nothing."""
    try:
        with video_file(video) as (_, file):
            opened = open_video(file, max_pixels=max_pixels)
            opened.close()
            return opened.info.duration_seconds
    except (VideoError, VideoSkip):
        return 0.0


def _wall_seconds(engine: Engine, job: str, recipe_id: int, video_seconds: float) -> float | None:
    """From the last runs of this job, with this recipe, that did some work; those on this machine, if there are any."""
    reports = lookup.working_runs(engine, job, recipe_id, RUNS_LOOKED_AT)
    here = [report for report in reports if report.get("machine") == this_machine()]
    past = [
        PastRun(report["video_seconds"], report["wall_seconds"], report.get("startup_seconds", 0.0))
        for report in here or reports
    ]
    return extrapolate(past, video_seconds) if past else None


def extrapolate(past: Sequence[PastRun], video_seconds: float) -> float:
    """Wall seconds of a run, from earlier ones: a start-up, and so much per second of video.

    Least squares of the relative errors, so that a short night counts as much as the first long run. Where the runs are all of
    one length, or a longer one took less time than a shorter one, their own word about their start-up must do.
    """
    done, wall, startup = np.array([astuple(run) for run in past], dtype=np.float64).T
    if np.ptp(done) >= 0.5 * done.max():
        (start, slope), *_ = np.linalg.lstsq(np.stack([1 / wall, done / wall], axis=1), np.ones(len(past)), rcond=None)
        if start >= 0 and slope > 0:
            return float(start + slope * video_seconds)
    return float(np.median(startup) + np.median((wall - startup) / done) * video_seconds)
