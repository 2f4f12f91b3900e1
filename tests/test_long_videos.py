"""A long video is decoded in ranges by many workers; what comes out is what one worker would have found."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decode.sampling import MAX_RUN_UP_SECONDS, segment_bounds, split_ranges
from indexer.records import IndexedVideo
from tests.archives import Archive, Customised, end_session, last_event
from tests.videos import index_first, pattern, with_sound, write_video

SEGMENT_SECONDS = 10


def make(path: Path, minutes: int) -> Path:
    """5 frames a second, a key frame every 4 s."""
    pictures = [pattern(number, width=64, height=48) for number in range(28)]
    return write_video(
        path, frames=minutes * 300, fps=5, width=64, height=48, gop=20, picture=lambda number: pictures[number // 9 % 28]
    )


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Five minutes: long, if ranges are short."""
    archive = Archive(tmp_path)
    archive.settings["sampling"] = {"segment": f"{SEGMENT_SECONDS}s", "frames": 2}
    make(archive.videos / "long.mp4", 5)
    return archive


def stored(archive: Archive, index: str = "index") -> list[object]:
    """Every row of every part, embeddings and all."""
    parts = sorted((archive.folder / index / "parts").glob("[!.]*"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def staged(archive: Archive) -> list[Path]:
    """The finished ranges. A worker that was killed may have left a temporary file beside them, which only `gc` takes away."""
    return sorted((archive.folder / "index" / "staging").glob("[!.]*"))


def test_rows_are_the_same_however_a_video_is_split(archive: Archive) -> None:
    make(archive.videos / "long.mp4", 10)
    archive.run(range_seconds=1e9)
    whole, dump = stored(archive), archive.dump()
    assert len(whole) == 60
    for number, range_seconds in enumerate((60, 300)):
        heard = archive.run(range_seconds=range_seconds, output={"uri": f"split{number}"})
        assert heard.videos["indexed"] == 1
        (outcome,) = heard.outcomes
        assert isinstance(outcome, IndexedVideo)
        assert heard.tally is not None
        assert outcome.decode_seconds == pytest.approx(heard.tally.stages["decode"] + heard.tally.stages["read"])
        assert stored(archive, f"split{number}") == whole
        assert archive.dump() == dump


def when_staged(ranges: int, archive: Archive) -> Callable[[], bool]:
    return lambda: len(staged(archive)) >= ranges


def test_a_killed_run_leaves_only_the_unfinished_ranges_to_the_next(archive: Archive) -> None:
    killed = archive.run(range_seconds=20, stopped=when_staged(12, archive))
    assert (killed.ended, killed.videos["left"]) == ("stopped", 1)
    assert killed.tally is not None
    assert (killed.tally.done_bytes / killed.tally.to_do_bytes, killed.tally.done_seconds) == pytest.approx((0.8, 240))
    assert archive.dump()[0]["rows"] == []
    assert len(staged(archive)) == 12
    again = archive.run(range_seconds=20)
    assert again.tally is not None
    assert 40 <= again.tally.decoded_seconds <= 60  # what was not staged: 3 of 15 ranges
    assert (again.ended, again.tally.video_seconds) == ("complete", 300)
    assert (again.tally.done_bytes, again.tally.done_seconds) == (again.tally.to_do_bytes, 300)
    assert staged(archive) == []
    rows, dump = stored(archive), archive.dump()
    archive.run(range_seconds=1e9, output={"uri": "index2"})
    assert (stored(archive, "index2"), archive.dump()) == (rows, dump)


def test_a_run_killed_in_the_last_fifth_of_a_long_video_costs_the_next_one_no_more_than_that(tmp_path: Path) -> None:
    standin = "slow_decoding_of_short_ranges"
    archive = Customised(tmp_path)
    make(archive.videos / "long.mp4", 5)
    job = archive.write_job(sampling={"segment": f"{SEGMENT_SECONDS}s"})
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job)],
        env=os.environ | archive.environment(standin), stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    give_up = time.monotonic() + 120
    while len(staged(archive)) < 12 and time.monotonic() < give_up:
        time.sleep(0.02)
    end_session(run)
    assert 12 <= len(staged(archive)) <= 14
    ended = archive.run_with(standin)
    assert ended.returncode == 0, ended.stderr
    assert (last_event(ended)["video_seconds"], len(stored(archive)), staged(archive)) == (300, 30, [])
    assert 20 <= last_event(ended)["decoded_seconds"] <= 60


def test_after_the_deadline_no_range_is_begun_and_those_that_are_done_stay(archive: Archive) -> None:
    late = archive.run(range_seconds=20, late=when_staged(12, archive))
    assert (late.ended, late.videos["left"]) == ("stopped", 1)
    assert len(staged(archive)) == 12
    again = archive.run(range_seconds=20)
    assert again.tally is not None
    assert (again.ended, again.tally.decoded_seconds) == ("complete", 60)


def test_what_is_staged_of_other_settings_or_damaged_is_not_used(archive: Archive) -> None:
    archive.run(range_seconds=60, stopped=when_staged(2, archive))
    staged(archive)[0].write_bytes(b"damaged")
    changed = archive.run(range_seconds=60, stopped=when_staged(4, archive), sampling={"frames": 3})
    assert changed.tally is not None
    assert changed.tally.decoded_seconds >= 120
    again = archive.run(range_seconds=60, sampling={"frames": 2})
    assert again.tally is not None
    assert again.tally.decoded_seconds == 240  # three of five ranges, and the damaged one
    assert len(stored(archive)) == 30


def test_a_file_without_an_index_of_key_frames_is_done_whole(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("v.ts", frames=500)
    heard = archive.run(range_seconds=2)
    assert (heard.ended, len(stored(archive))) == ("complete", 20)


def test_a_long_file_that_ends_too_early_is_done_whole(archive: Archive) -> None:
    path = index_first(archive.videos / "long.mp4", archive.videos / "cut.mp4")
    (archive.videos / "long.mp4").unlink()
    with av.open(str(path)) as container:
        cut = next(packet.pos for packet in container.demux(video=0) if packet.pts and packet.pts * packet.time_base >= 180)
    assert cut is not None
    os.truncate(path, cut)
    heard = archive.run(range_seconds=1e9)
    assert heard.tally is not None
    assert heard.tally.warnings == {"W_TRUNCATED": 1}
    whole, dump = stored(archive), archive.dump()
    assert len(whole) == 18
    archive.run(range_seconds=60, output={"uri": "index2"})
    assert (stored(archive, "index2"), archive.dump()) == (whole, dump)
    assert list((archive.folder / "index2" / "staging").glob("*")) == []


def test_a_long_file_whose_sound_is_longer_is_done_in_ranges(archive: Archive) -> None:
    silent = make(archive.folder / "silent.mkv", 5)
    with_sound(silent, archive.videos / "long.mkv", seconds=400)
    (archive.videos / "long.mp4").unlink()
    heard = archive.run(range_seconds=60)
    assert heard.tally is not None
    assert (heard.tally.warnings, heard.tally.decoded_seconds, len(stored(archive))) == ({}, pytest.approx(300, abs=1), 30)


def bounds(seconds: float, segment: float) -> list[tuple[float, float]]:
    return segment_bounds(0.0, seconds, segment)


def test_ranges_are_cut_where_a_key_frame_is_near() -> None:
    segments = bounds(100, 10)
    every_five = [float(t) for t in range(0, 100, 5)]
    assert split_ranges(segments, every_five, 34) == ((0, 3), (3, 5), (5, 7), (7, 10))
    assert split_ranges(segments, every_five, 50) == ((0, 5), (5, 10))
    assert split_ranges(segments, every_five, 80) == ((0, 5), (5, 10))
    assert split_ranges(segments, every_five, 100) == ()
    assert split_ranges(segments, [0.0, 55.0], 20) == ((0, 2), (2, 3), (3, 6), (6, 8), (8, 10))
    assert split_ranges(segments, [], 30) == ()


@given(
    st.floats(1, 5000),
    st.floats(0.5, 60),
    st.lists(st.floats(0, 5000), max_size=40),
    st.floats(1, 900),
)
def test_ranges_tile_all_segments_and_start_near_a_key_frame(
    seconds: float, segment: float, keys: list[float], range_seconds: float
) -> None:
    segments, keys = bounds(seconds, segment), sorted(keys)
    ranges = split_ranges(segments, keys, range_seconds)
    if not ranges:
        return
    assert [number for first, stop in ranges for number in range(first, stop)] == list(range(len(segments)))
    for first, _ in ranges[1:]:
        start = segments[first][0]
        assert any(0 <= start - key <= MAX_RUN_UP_SECONDS for key in keys)
    for first, stop in ranges:
        if segments[stop - 1][1] - segments[first][0] > range_seconds:  # there was no place to cut
            inside = [low for low, _ in segments[first + 1 : stop] if low - segments[first][0] <= range_seconds]
            assert not any(0 <= low - key <= MAX_RUN_UP_SECONDS for low in inside for key in keys)
