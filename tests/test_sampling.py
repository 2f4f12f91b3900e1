from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decode.sampling import at_key_frames, clip_spans, frame_times, merged_times, segment_bounds
from indexer.records import ClipSpan

seconds = st.floats(0.01, 4000, allow_nan=False)


def spans(start: float, end: float, **settings: float) -> list[tuple[int, float, float]]:
    found = clip_spans(start, end, **settings)  # type: ignore[arg-type]
    return [(s.segment, round(s.start_seconds, 3), round(s.end_seconds, 3)) for s in found]


def test_segments_tile_the_video_and_the_last_one_is_shorter() -> None:
    assert segment_bounds(0.5, 25.5, 10) == [(0.5, 10.5), (10.5, 20.5), (20.5, 25.5)]


def test_a_rest_of_a_few_milliseconds_joins_the_last_segment() -> None:
    assert segment_bounds(0, 20.05, 10) == [(0, 10), (10, 20.05)]


def test_a_video_shorter_than_the_shortest_rest_is_one_segment() -> None:
    assert segment_bounds(0, 0.04, 10) == [(0, 0.04)]


def test_a_video_without_length_has_no_segments() -> None:
    assert segment_bounds(3, 3, 10) == []


def test_one_clip_lies_in_the_middle_of_its_segment() -> None:
    assert spans(0, 20, segment_seconds=10, clips=1, span_seconds=1) == [(0, 4.5, 5.5), (1, 14.5, 15.5)]


def test_several_clips_are_spread_evenly() -> None:
    assert spans(0, 10, segment_seconds=10, clips=2, span_seconds=1) == [(0, 2.0, 3.0), (0, 7.0, 8.0)]


def test_clips_that_fill_their_segment_stay_inside_it() -> None:
    assert spans(0, 4, segment_seconds=2, clips=2, span_seconds=1.6) == [
        (0, 0.0, 1.6), (0, 0.4, 2.0), (1, 2.0, 3.6), (1, 2.4, 4.0),
    ]  # fmt: skip


def test_a_clip_longer_than_its_segment_is_centred_on_it_and_pushed_inside_the_video() -> None:
    assert spans(0, 12, segment_seconds=2, clips=1, span_seconds=8.5) == [
        (0, 0.0, 8.5), (1, 0.0, 8.5), (2, 0.75, 9.25), (3, 2.75, 11.25), (4, 3.5, 12.0), (5, 3.5, 12.0),
    ]  # fmt: skip


def test_clips_move_to_the_nearest_key_frame_of_their_segment() -> None:
    uniform = clip_spans(0, 30, segment_seconds=10, clips=1, span_seconds=2)  # at 4, 14, 24
    bounds = segment_bounds(0, 30, 10)
    moved = at_key_frames(uniform, bounds, [0.0, 3.5, 5.5, 9.5, 19.0, 25.0])
    assert [(s.segment, s.start_seconds, s.end_seconds) for s in moved] == [(0, 3.5, 5.5), (1, 14.0, 16.0), (2, 25.0, 27.0)]
    assert at_key_frames(uniform, bounds, []) == uniform


def test_each_clip_of_a_segment_has_a_key_frame_of_its_own() -> None:
    uniform = clip_spans(0, 10, segment_seconds=10, clips=3, span_seconds=1)
    moved = at_key_frames(uniform, segment_bounds(0, 10, 10), [4.0, 5.0])
    assert [s.start_seconds for s in moved] == [4.0, 5.0, uniform[2].start_seconds]


@given(st.floats(1, 600), st.floats(0.5, 60), st.integers(1, 4), st.floats(0.1, 9), st.lists(st.floats(0, 600)))
def test_moved_clips_stay_where_uniform_ones_may_lie(
    end: float, segment: float, clips: int, span: float, keys: list[float]
) -> None:
    bounds = segment_bounds(0, end, segment)
    uniform = clip_spans(0, end, segment_seconds=segment, clips=clips, span_seconds=span)
    moved = at_key_frames(uniform, bounds, sorted(keys))
    assert [s.segment for s in moved] == [s.segment for s in uniform]
    for before, after in zip(uniform, moved, strict=True):
        assert after == before or after.start_seconds in keys
        assert after.start_seconds == before.start_seconds or after.start_seconds >= bounds[after.segment][0]
        assert after.end_seconds <= max(bounds[after.segment][1], before.end_seconds) + 1e-6


def test_a_video_shorter_than_a_clip_is_sampled_from_its_start() -> None:
    assert spans(0.2, 0.7, segment_seconds=10, clips=1, span_seconds=1) == [(0, 0.2, 1.2)]


def test_frames_of_a_clip_are_one_frame_time_apart() -> None:
    assert frame_times(ClipSpan(0, 2.0, 2.4), 4) == pytest.approx([2.0, 2.1, 2.2, 2.3])


@given(start=st.floats(0, 100), length=seconds, segment=st.floats(0.1, 600))
def test_segments_cover_every_moment_exactly_once(start: float, length: float, segment: float) -> None:
    bounds = segment_bounds(start, start + length, segment)
    assert bounds[0][0] == start
    assert bounds[-1][1] == start + length
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    assert all(low < high for low, high in bounds)
    assert all(high - low <= segment + 0.11 for low, high in bounds)


@given(
    start=st.floats(0, 100),
    length=st.floats(0.01, 400),
    segment=st.floats(0.1, 60),
    clips=st.integers(1, 5),
    span=st.floats(0.05, 9),
)
def test_clips_lie_inside_the_video_in_order(start: float, length: float, segment: float, clips: int, span: float) -> None:
    found = clip_spans(start, start + length, segment_seconds=segment, clips=clips, span_seconds=span)
    assert len(found) == clips * len(segment_bounds(start, start + length, segment))
    for clip in found:
        assert clip.end_seconds - clip.start_seconds == pytest.approx(span)
        assert clip.start_seconds >= start
        assert clip.end_seconds <= max(start + length, start + span) + 1e-6
    starts = [clip.start_seconds for clip in found]
    assert starts == sorted(starts)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5)), max_size=20),
    st.integers(1, 5),
)
def test_the_times_of_all_clips_come_in_order_however_these_overlap(places: list[tuple[float, float]], frames: int) -> None:
    spans = [ClipSpan(number, start, start + length) for number, (start, length) in enumerate(places)]
    expected = sorted((time, n, k) for n, span in enumerate(spans) for k, time in enumerate(frame_times(span, frames)))
    assert list(merged_times(spans, frames)) == expected
