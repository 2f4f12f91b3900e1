"""What a source holds: all its names and sizes, and the headers of some of its videos. Reads, and writes nothing."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from indexer.config import Source
from indexer.decode.probe import open_video
from indexer.errors import SourceError, VideoError, VideoSkip
from indexer.plan.listing import list_source
from indexer.records import MediaInfo, Skipped, Video
from indexer.storage.fetch import video_file

SAMPLE_VIDEOS = 50
MOST_FILES = 200_000
"""A survey does not wait for the end of a listing of millions."""
_ANY_PIXELS = 1 << 40

COMMON_EXTENSIONS = tuple(pattern.removeprefix("**/*") for pattern in Source.model_fields["include"].default)


@dataclass(frozen=True, slots=True)
class Survey:
    """Of one source."""

    uri: str
    complete: bool
    """Whether all files were counted."""
    videos: int
    size_bytes: int
    extensions: dict[str, int]
    """Of the videos, most frequent first; lower case, with the dot."""
    others: dict[str, int]
    """Of all other files."""
    sampled: int
    unreadable: dict[str, int]
    """Failure code, or reason to skip -> how many of the sample."""
    codecs: dict[str, int]
    resolutions: dict[str, int]
    most_pixels: int
    shortest_seconds: float
    median_seconds: float
    longest_seconds: float
    video_seconds: float
    """Of all videos, estimated from the sample by size."""


def survey(uri: str) -> Survey:
    """Look at `uri`, a folder, a manifest, or s3://. Raises SourceError, also if there is no video; CredentialsError."""
    source = Source.model_validate({"uri": uri, "include": ["**/*"], "min_age": "0s"})
    listed = list(islice(list_source(source, now=time.time(), warn=lambda text: None), MOST_FILES + 1))
    files = [item for item in listed[:MOST_FILES] if isinstance(item, Video)]
    videos = [video for video in files if _extension(video) in COMMON_EXTENSIONS]
    extensions = Counter(map(_extension, videos))
    others = Counter(map(_extension, files)) - extensions
    if not videos:
        links = sum(isinstance(item, Skipped) for item in listed)
        there = ", ".join(f"{count:,} {name or 'without extension'}" for name, count in others.most_common(5))
        linked = f"; {links:,} links and the like, which are not followed" if links else ""
        raise SourceError(f"source.uri: there is no video in {source.uri}. There are: {there or 'no files'}{linked}.")
    infos, unreadable, seconds = _sample(videos)
    lengths = sorted(info.duration_seconds for info in infos) or [0.0]
    return Survey(
        uri=source.uri,
        complete=len(listed) <= MOST_FILES,
        videos=len(videos),
        size_bytes=sum(video.size_bytes for video in videos),
        extensions=dict(extensions.most_common()),
        others=dict(others.most_common(10)),
        sampled=len(infos) + sum(unreadable.values()),
        unreadable=dict(unreadable.most_common()),
        codecs=dict(Counter(info.codec for info in infos).most_common()),
        resolutions=dict(Counter(f"{info.width}x{info.height}" for info in infos).most_common(10)),
        most_pixels=max((info.width * info.height for info in infos), default=0),
        shortest_seconds=lengths[0],
        median_seconds=statistics.median(lengths),
        longest_seconds=lengths[-1],
        video_seconds=seconds,
    )


def _sample(videos: Sequence[Video]) -> tuple[list[MediaInfo], Counter[str], float]:
    """The headers of some videos of every size, what cannot be read, and the seconds of all, each standing for its group."""
    by_size = sorted(videos, key=lambda video: (video.size_bytes, video.uri))
    step = math.ceil(len(by_size) / SAMPLE_VIDEOS)
    infos, unreadable, seconds = [], Counter[str](), 0.0
    for first in range(0, len(by_size), step):
        group = by_size[first : first + step]
        middle = group[len(group) // 2]
        try:
            with video_file(middle) as (_, file):
                opened = open_video(file, max_pixels=_ANY_PIXELS)
                opened.close()
            infos.append(opened.info)
            seconds += opened.info.duration_seconds * sum(video.size_bytes for video in group) / middle.size_bytes
        except VideoError as error:
            unreadable[error.code] += 1
        except VideoSkip as skip:
            unreadable[skip.reason] += 1
    return infos, unreadable, seconds


def _extension(video: Video) -> str:
    return PurePosixPath(video.uri).suffix.lower()
