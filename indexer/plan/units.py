"""Cutting the work of a run into units: what one decode task does.

A task costs some milliseconds to start, so small videos share one, up to what takes a few seconds: 64 videos of four seconds
in 360p took 2.4 s of CPU, 32 MB of such in 720p 8 s (H.264, AMD EPYC), and a crash costs no more than that. Large ones come
first: the run must not end with one worker busy and the others waiting.
"""

from __future__ import annotations

from collections.abc import Iterable

from indexer.records import Unit, Video

UNITS_PER_WORKER = 4


def plan_units(videos: Iterable[Video], *, workers: int, most_videos: int = 64, most_bytes: int = 32_000_000) -> list[Unit]:
    """Every video in exactly one unit, largest first; the same videos always give the same units.

    A unit has at most `most_videos` videos and `most_bytes` bytes, or is one larger video. There are at least
    UNITS_PER_WORKER x `workers` units, or as many as there are videos.
    """
    ordered = sorted(videos, key=lambda video: (-video.size_bytes, video.uri))
    most_videos = max(1, min(most_videos, len(ordered) // (UNITS_PER_WORKER * workers)))
    units: list[Unit] = []
    bundle: list[Video] = []
    bundle_bytes = 0
    for video in ordered:
        if bundle and (len(bundle) == most_videos or bundle_bytes + video.size_bytes > most_bytes):
            units.append(Unit(tuple(bundle)))
            bundle, bundle_bytes = [], 0
        bundle.append(video)
        bundle_bytes += video.size_bytes
    if bundle:
        units.append(Unit(tuple(bundle)))
    return units
