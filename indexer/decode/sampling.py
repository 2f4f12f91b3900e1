"""Where the clips of a video lie. Arithmetic only: no video, no pixels.

video     |------------------------------------------------------|
segments  [---------0---------)[---------1---------)[-----2------)     the last one is shorter
clips          [==)                 [==)               [==)            clips: 1
           [==)     [==)        [==)     [==)        [==) [==)         clips: 2
key frames  k     k     k     k     k     k     k     k     k     k
clips             [==)              [==)              [==)            clips: 1, placement: keyframe
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

from indexer.records import ClipSpan, SegmentRange

MIN_TAIL_SECONDS = 0.1
"""A rest shorter than this joins the segment before it: a row of a few milliseconds helps nobody."""
MAX_RUN_UP_SECONDS = 30.0
"""A range of a long video begins where a key frame lies at most this long before it: what lies between is decoded twice."""


def segment_bounds(start_seconds: float, end_seconds: float, segment_seconds: float) -> list[tuple[float, float]]:
    """Tile [start, end) with segments of `segment_seconds`; the last one may be shorter."""
    if end_seconds <= start_seconds:
        return []
    count = int((end_seconds - start_seconds) / segment_seconds)
    edges = [start_seconds + k * segment_seconds for k in range(count + 1)]
    if end_seconds - edges[-1] >= MIN_TAIL_SECONDS or count == 0:
        edges.append(end_seconds)
    else:
        edges[-1] = end_seconds
    return list(pairwise(edges))


def clip_spans(
    start_seconds: float, end_seconds: float, *, segment_seconds: float, clips: int, span_seconds: float
) -> list[ClipSpan]:
    """Place `clips` clips of `span_seconds` in every segment of [start, end), spread evenly.

    The k-th clip is centred on the k-th of `clips` equal parts of its segment. It is pushed inside the segment if it fits
    there, else inside the video. In a video shorter than a clip, the clip starts with the video and runs over its end.
    """
    spans = []
    for number, (low, high) in enumerate(segment_bounds(start_seconds, end_seconds, segment_seconds)):
        fits = span_seconds <= high - low
        first, last = (low, high) if fits else (start_seconds, end_seconds)
        for k in range(clips):
            centre = low + (high - low) * (k + 0.5) / clips
            start = max(first, min(centre - span_seconds / 2, last - span_seconds))
            spans.append(ClipSpan(segment=number, start_seconds=start, end_seconds=start + span_seconds))
    return spans


def at_key_frames(
    spans: Sequence[ClipSpan], bounds: Sequence[tuple[float, float]], key_times: Sequence[float]
) -> list[ClipSpan]:
    """Move each span to the key frame nearest to its start: nothing before its first frame has to be decoded then.

    Only key frames of its own segment count, at which a clip ends no later than the segment, or than the uniform one did.
    Of several spans in a segment, the later one takes a later key frame. Where there is none, a span stays where it is.
    `key_times` ascend.
    """
    placed: list[ClipSpan] = []
    taken = -1
    for span in spans:
        low, high = bounds[span.segment]
        length = span.end_seconds - span.start_seconds
        first = max(bisect_left(key_times, low), taken + 1)
        stop = bisect_right(key_times, max(high - length, span.start_seconds))
        nearest = min(range(first, stop), key=lambda k: abs(key_times[k] - span.start_seconds), default=None)
        if nearest is not None:
            taken = nearest
            span = ClipSpan(span.segment, key_times[nearest], key_times[nearest] + length)
        placed.append(span)
    return placed


def split_ranges(
    bounds: Sequence[tuple[float, float]], key_times: Sequence[float], range_seconds: float
) -> tuple[SegmentRange, ...]:
    """Cut a long video into ranges of its segments that can be decoded independently; none if it is better done whole.

    Each is at most `range_seconds` long, and all about equally, where key frames and segments allow it; longer where no key
    frame is near. No segment is cut: rows are the same however a video is split. `key_times` ascend.
    """
    end = bounds[-1][1] if bounds else 0.0
    places = [number for number, (low, _) in enumerate(bounds) if number and _key_frame_is_near(low, key_times)]
    cuts = [0]
    while places and end - (begun := bounds[cuts[-1]][0]) > range_seconds:
        wanted = begun + (end - begun) / ceil((end - begun) / range_seconds)
        near = [number for number in places if bounds[number][0] - begun <= range_seconds]
        cuts.append(min(near, key=lambda number: abs(bounds[number][0] - wanted)) if near else places[0])
        places = places[places.index(cuts[-1]) + 1 :]
    return tuple(pairwise([*cuts, len(bounds)])) if len(cuts) > 1 else ()


def _key_frame_is_near(seconds: float, key_times: Sequence[float]) -> bool:
    place = bisect_right(key_times, seconds)
    return place > 0 and seconds - key_times[place - 1] <= MAX_RUN_UP_SECONDS


def frame_times(span: ClipSpan, frames: int) -> list[float]:
    """The `frames` times that a clip samples, in seconds: its start, then every 1/fps."""
    step = (span.end_seconds - span.start_seconds) / frames
    return [span.start_seconds + k * step for k in range(frames)]


def merged_times(spans: Sequence[ClipSpan], frames: int) -> Iterator[tuple[float, int, int]]:
    """The times that all clips sample, ascending, each with the number of its span and its place in the clip.

    Clips may overlap; only the times of those that do are held at once.
    """
    held: list[tuple[float, int, int]] = []
    for number in sorted(range(len(spans)), key=lambda number: spans[number].start_seconds):
        while held and held[0] < (spans[number].start_seconds, number, 0):
            yield heapq.heappop(held)
        for place, time in enumerate(frame_times(spans[number], frames)):
            heapq.heappush(held, (time, number, place))
    while held:
        yield heapq.heappop(held)
