"""One video, from its file to its packs of clips. The stage in one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, tee
from typing import TYPE_CHECKING

import numpy as np

from indexer.decode import sampling
from indexer.decode.containers import holds_another, is_encrypted, why_undecodable
from indexer.decode.keyframes import KeyFrames, read_key_frames
from indexer.decode.packets import goes_on, sound_outlasts_pictures
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import OpenVideo, open_video
from indexer.decode.readers import Reader, can_seek, open_reader
from indexer.errors import Corrupt, Encrypted, RangeLost, Truncated
from indexer.records import ClipGeometry, ClipPack, ClipSpan, MediaInfo, SegmentRange, SegmentSpan, Split, Video, VideoEnd
from indexer.storage.fetch import VideoFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_PACK_CLIPS = 4
"""Of each video: a model that waits gets its first batch without waiting for a whole pack."""
_TRAILING_SECONDS = 1.0
"""Frames that follow so long after the stated end are more than a header that rounds."""
_TRUNCATION_SLACK_SECONDS = 0.5
"""Headers round; an end this much before the stated one is not a cut recording."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What decoding needs to know of a job. Small: it travels to every task."""

    geometry: ClipGeometry
    segment_seconds: float
    clips: int
    """Per segment."""
    placement: str
    """`uniform` or `keyframe`, as sampling.placement."""
    backend: str
    max_pixels: int
    min_coverage: float
    range_seconds: float
    """Of a long video, one unit decodes about this much."""


def decode_video(
    video: Video,
    source: str | VideoFile,
    settings: DecodeSettings,
    segments: SegmentRange | None = None,
    *,
    may_split: bool = False,
) -> Iterator[ClipPack | VideoEnd | Split]:
    """Yield the packs of `video`, whose bytes are in `source` (a path or an open file), in order, and last its VideoEnd.

    With `segments`, only those of a long video; with `may_split`, a long video yields nothing but a Split. Raises VideoError
    if it cannot be indexed, VideoSkip if there is nothing to index, RangeLost if `segments` cannot be decoded without the
    rest. Packs may have been yielded by then.
    """
    watch = _Watch()
    opened = open_video(source, max_pixels=settings.max_pixels)
    try:
        sampler = Sampler(settings.geometry, aspect=opened.aspect)
        key_frames = read_key_frames(opened)
        if may_split and (ranges := _ranges(opened.info, key_frames, settings)):
            yield Split(video, ranges)
            return
        reader = open_reader(settings.backend, opened, key_frames, sampler, must_seek=segments is not None)
        spans = _spans(opened.info, key_frames, segments, settings)
        if can_seek(settings.backend):
            opened.file.expect(key_frames.byte_ranges(spans))
        read_seconds = watch.lap()
        decode_seconds = 0.0
        kept: list[ClipSpan] = []
        for first, frames in _packs(_shown_clips(reader, spans, settings.geometry, kept), settings.geometry):
            decode_seconds += watch.lap()
            yield ClipPack(video, first, frames)
            watch.lap()  # whoever takes the pack may take its time
        if segments is not None:
            _check_range(opened.info, reader, spans)
        yield VideoEnd(
            video=video,
            info=_corrected(opened.info, reader),
            segments=_segments(opened.info, reader, kept, settings),
            warnings=_judge(opened, reader, spans, kept, settings, whole=segments is None),
            read_seconds=read_seconds,
            decode_seconds=decode_seconds + watch.lap(),
        )
    finally:
        opened.close()


def _bounds(info: MediaInfo, settings: DecodeSettings) -> list[tuple[float, float]]:
    end_seconds = info.start_seconds + info.duration_seconds
    return sampling.segment_bounds(info.start_seconds, end_seconds, settings.segment_seconds)


def _ranges(info: MediaInfo, key_frames: KeyFrames, settings: DecodeSettings) -> tuple[SegmentRange, ...]:
    if not can_seek(settings.backend):
        return ()
    return sampling.split_ranges(_bounds(info, settings), key_frames.shown, settings.range_seconds)


def _spans(info: MediaInfo, key_frames: KeyFrames, segments: SegmentRange | None, settings: DecodeSettings) -> list[ClipSpan]:
    spans = sampling.clip_spans(
        info.start_seconds,
        info.start_seconds + info.duration_seconds,
        segment_seconds=settings.segment_seconds,
        clips=settings.clips,
        span_seconds=settings.geometry.span_seconds,
    )
    if settings.placement == "keyframe":
        spans = sampling.at_key_frames(spans, _bounds(info, settings), key_frames.shown)
    return spans if segments is None else [span for span in spans if segments[0] <= span.segment < segments[1]]


def _check_range(info: MediaInfo, reader: Reader, spans: list[ClipSpan]) -> None:
    """What depends on frames outside the range must not be decided here: a repaired clock, an end that comes too early."""
    if "W_TIMESTAMPS" in reader.warnings:
        raise RangeLost("its frame times must be counted from the start")
    end, last = reader.end_seconds, spans[-1].end_seconds
    if end is not None and end < min(last, info.start_seconds + info.duration_seconds) - _TRUNCATION_SLACK_SECONDS:
        raise RangeLost("it ends before it should")


class _Watch:
    """Wall seconds between two looks at it."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def _packs(clips: Iterator[NDArray[np.uint8]], geometry: ClipGeometry) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Clips [T, H, W, 3] -> the number of the first one and the pack [n, T, H, W, 3]."""
    first, size = 0, min(FIRST_PACK_CLIPS, geometry.pack_clips)
    while pack := list(islice(clips, size)):
        yield first, np.stack(pack)
        first, size = first + len(pack), geometry.pack_clips


def _shown_clips(
    reader: Reader, spans: list[ClipSpan], geometry: ClipGeometry, kept: list[ClipSpan]
) -> Iterator[NDArray[np.uint8]]:
    """The clips during which anything is shown; their spans are added to `kept`."""
    for span, frames in _clips(reader, spans, geometry):
        if frames is not None:
            kept.append(span)
            yield frames


def _clips(
    reader: Reader, spans: list[ClipSpan], geometry: ClipGeometry
) -> Iterator[tuple[ClipSpan, NDArray[np.uint8] | None]]:
    """Each span with its frames [T, H, W, 3], or None if nothing is shown during it. Clips may overlap.

    Those after the end are left out: a damaged file may claim to last for months.
    """
    wanted, asked = tee(sampling.merged_times(spans, geometry.frames))
    building: dict[int, list[NDArray[np.uint8] | None]] = {}
    for (wanted_seconds, number, place), picture in zip(wanted, reader.pictures(t for t, _, _ in asked), strict=True):
        if not building and reader.end_seconds is not None and wanted_seconds > reader.end_seconds:
            return
        frames = building.setdefault(number, [])
        frames.append(picture)
        if place == geometry.frames - 1:
            yield spans[number], _complete(building.pop(number))


def _complete(frames: list[NDArray[np.uint8] | None]) -> NDArray[np.uint8] | None:
    """Fill what is not shown with the picture before it, or the first one: a short video holds its last frame."""
    last = next((frame for frame in frames if frame is not None), None)
    if last is None:
        return None
    filled = []
    for frame in frames:
        last = last if frame is None else frame
        filled.append(last)
    return np.stack(filled)


def _end(info: MediaInfo, reader: Reader) -> float:
    """Where the recording really ends, seconds: before the stated end if the file ended there."""
    stated = info.start_seconds + info.duration_seconds
    actual = reader.end_seconds
    return stated if actual is None or actual >= stated - _TRUNCATION_SLACK_SECONDS else actual


def _corrected(info: MediaInfo, reader: Reader) -> MediaInfo:
    width, height = (info.height, info.width) if reader.quarter_turns % 2 else (info.width, info.height)
    return replace(info, duration_seconds=_end(info, reader) - info.start_seconds, width=width, height=height)


def _segments(info: MediaInfo, reader: Reader, kept: list[ClipSpan], settings: DecodeSettings) -> tuple[SegmentSpan, ...]:
    """The segments that have clips, in order."""
    end = _end(info, reader)
    bounds = _bounds(info, settings)
    counts: dict[int, int] = {}
    for span in kept:
        counts[span.segment] = counts.get(span.segment, 0) + 1
    return tuple(
        SegmentSpan(bounds[number][0], min(bounds[number][1], max(end, bounds[number][0] + 0.001)), clips)
        for number, clips in sorted(counts.items())
    )


def _judge(
    opened: OpenVideo,
    reader: Reader,
    spans: list[ClipSpan],
    kept: list[ClipSpan],
    settings: DecodeSettings,
    *,
    whole: bool,
) -> tuple[str, ...]:
    """Warning codes of a video, or a range of one, that is good enough to index; else its VideoError."""
    info = opened.info
    if whole and not kept and reader.end_seconds is None:
        raise why_undecodable(opened.file)
    warnings = [*opened.warnings, *reader.warnings]
    if "W_DECODE_ERRORS" in warnings and is_encrypted(opened.file):
        raise Encrypted("the video stream is encrypted (common encryption)")
    end = _end(info, reader)
    coverage = (end - info.start_seconds) / info.duration_seconds
    cut = coverage < 1 and not _is_sound_longer(opened, reader)
    if cut and coverage < settings.min_coverage:
        raise Truncated(
            f"ends after {coverage:.0%} of the {info.duration_seconds:.1f} s that it claims; "
            f"decode.min_coverage asks for {settings.min_coverage:.0%}"
        )
    if whole and not kept:
        raise Corrupt("no picture is shown at any of the sampled times")
    if cut:
        warnings.append("W_TRUNCATED")
    elif len(kept) < sum(span.start_seconds < end for span in spans):
        warnings.append("W_GAP")
    if whole and _is_followed(opened):
        warnings.append("W_TRAILING")
    if end - info.start_seconds < settings.geometry.span_seconds:
        warnings.append("W_SHORT")
    return tuple(dict.fromkeys(warnings))


def _is_sound_longer(opened: OpenVideo, reader: Reader) -> bool:
    """Whether the stated end, which the pictures do not reach, is that of the sound."""
    stated_seconds = opened.origin_seconds + opened.info.start_seconds + opened.info.duration_seconds
    return "W_DECODE_ERRORS" not in reader.warnings and sound_outlasts_pictures(
        opened.file, opened.container, opened.stream.index, stated_seconds
    )


def _is_followed(opened: OpenVideo) -> bool:
    """Whether pictures follow the stated end, where the reader stopped."""
    if opened.clock != "pts":
        return False
    stated_seconds = opened.origin_seconds + opened.info.start_seconds + opened.info.duration_seconds
    return goes_on(opened.container, opened.stream.index, stated_seconds + _TRAILING_SECONDS) or holds_another(opened.file)
