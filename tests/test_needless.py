"""Pictures that no clip needs are not decoded, and all others are the same to the bit."""

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decode.keyframes import KeyFrames
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import open_video
from indexer.decode.readers.needless import WantedTimes, judge
from indexer.decode.readers.pyav import PyavReader
from indexer.records import ClipGeometry
from tests.videos import Picture, number_of, write_video

SMALL = ClipGeometry(16, 15, (128, 171), (112, 160))
QUIET = "log-level=none:b-adapt=0:bframes=3"


def read(path: Path, times: list[float]) -> tuple[list[Picture], int]:
    """The pictures, read on without a seek, and how many were decoded for them."""
    video = open_video(str(path), max_pixels=36_000_000)
    try:
        reader = PyavReader(video, KeyFrames(), Sampler(SMALL))
        pictures = [picture for picture in reader.pictures(times) if picture is not None]
        return pictures, reader.frames_decoded
    finally:
        video.close()


LEFT_OUT: dict[str, tuple[str, dict[str, Any]]] = {
    "H.264": ("v.mp4", {"options": {"bf": "3", "x264-params": "b-adapt=0"}}),
    "H.264, without a pyramid": ("v.mkv", {"options": {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none"}}),
    "H.264, a stream": ("v.ts", {"options": {"bf": "3", "x264-params": "b-adapt=0"}}),
    "H.264, open groups": ("v.mp4", {"options": {"bf": "3", "x264-params": "b-adapt=0:open-gop=1"}}),
    "H.264, 10 bits": ("v.mp4", {"pix_fmt": "yuv420p10le", "options": {"bf": "3", "x264-params": "b-adapt=0"}}),
    "HEVC": ("v.mp4", {"codec": "libx265", "options": {"x265-params": QUIET}}),
    "HEVC, a stream": ("v.ts", {"codec": "libx265", "options": {"x265-params": QUIET}}),
    "MPEG-2": ("v.mpg", {"codec": "mpeg2video", "options": {"bf": "2", "b": "4000000"}}),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_no_clip_needs_is_left_out_and_changes_nothing(tmp_path: Path, what: str) -> None:
    name, options = LEFT_OUT[what]
    path = write_video(tmp_path / name, frames=150, **options)
    everything, decoded = read(path, [k / 25 + 0.01 for k in range(150)])
    assert decoded == 150
    assert [number_of(picture) for picture in everything] == [k % 28 for k in range(150)]
    # Two clips of every second frame, as of a model with a lower rate than the video.
    wanted = [*range(40, 60, 2), *range(101, 121, 2)]
    pictures, decoded = read(path, [k / 25 + 0.01 for k in wanted])
    assert all(np.array_equal(picture, everything[k]) for k, picture in zip(wanted, pictures, strict=True))
    assert decoded < 105


DECODED: dict[str, tuple[str, dict[str, Any]]] = {
    "interlaced: two packets may hold one picture": (
        "v.mp4",
        {"options": {"bf": "3", "x264-params": "b-adapt=0:interlaced=1"}},
    ),
    "layers of time: others may refer to it": (
        "v.mp4",
        {"codec": "libx265", "options": {"x265-params": f"{QUIET}:temporal-layers=2"}},
    ),
    "layers of time, a stream": ("v.ts", {"codec": "libx265", "options": {"x265-params": f"{QUIET}:temporal-layers=2"}}),
    "no times: it is counted": ("v.h264", {"options": {"bf": "3", "x264-params": "b-adapt=0"}}),
}


@pytest.mark.parametrize("why", DECODED)
def test_what_might_be_needed_is_decoded(tmp_path: Path, why: str) -> None:
    name, options = DECODED[why]
    pictures, decoded = read(write_video(tmp_path / name, frames=100, **options), [0.0, 3.9])
    assert [number_of(picture) for picture in pictures] == [0, 97 % 28]
    assert decoded >= 98


def test_a_stream_that_becomes_interlaced_is_decoded_from_there(tmp_path: Path) -> None:
    options = {"bf": "3", "x264-params": "b-adapt=0"}
    first = write_video(tmp_path / "1.ts", frames=100, options=options)
    second = write_video(tmp_path / "2.ts", frames=100, options={**options, "x264-params": "b-adapt=0:interlaced=1"})
    with av.open(str(tmp_path / "v.ts"), "w") as target:
        for number, path in enumerate([first, second]):
            with av.open(str(path)) as source:
                if not number:
                    stream = target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + number * 360_000, packet.dts + number * 360_000
                        packet.stream = stream
                        target.mux(packet)
    pictures, decoded = read(tmp_path / "v.ts", [0.0, 3.9, 7.9])
    assert [number_of(picture) for picture in pictures] == [0, 97 % 28, 97 % 28]
    assert 140 < decoded < 165


def test_the_first_picture_stands_for_what_is_before_it(tmp_path: Path) -> None:
    """Also if no other picture refers to it: an edit list may begin anywhere."""
    whole = write_video(tmp_path / "v.mp4", frames=100, options={"bf": "3", "x264-params": "b-adapt=0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.pts -= 512  # a frame; the second one is referred to by none
                packet.dts -= 512
                target.mux(packet)
    pictures, _ = read(cut, [-1.0, 2.0])
    assert [number_of(picture) for picture in pictures] == [1, 51 % 28]


class _Packets:
    """Of pictures with these pts, in the order of decoding; then an error, if one is to come."""

    def __init__(self, pts: list[int | None], *, fails: bool = False) -> None:
        self._left = [*pts]
        self._fails = fails

    def __iter__(self) -> "_Packets":
        return self

    def __next__(self) -> av.Packet:
        if not self._left:
            raise av.error.InvalidDataError(1094995529, "cut") if self._fails else StopIteration
        packet = av.Packet(b"x")
        packet.pts = self._left.pop(0)
        return packet


def needless(pts: list[int | None], times: list[float], *, fails: bool = False) -> list[int | None]:
    wanted = WantedTimes(times)
    judged = judge(_Packets(pts, fails=fails), wanted, base=Fraction(1, 10), origin_seconds=1.0)
    return [packet.pts for packet, is_needless in judged if is_needless]


def test_a_packet_is_needless_if_its_picture_is_shown_at_no_wanted_time() -> None:
    """Ticks of a tenth, from 1 s on."""
    order = [10, 14, 12, 11, 13, 18, 16, 15, 17]
    assert needless([*order], [0.25]) == [10, 14, 11, 13, 16, 15, 17]
    assert needless([*order], [0.3]) == [10, 14, 12, 11, 16, 15, 17]
    assert needless([*order], [0.2999]) == [10, 14, 12, 11, 16, 15, 17]  # a clock may be off by half a millisecond
    assert needless([*order], [0.2996]) == [10, 14, 11, 16, 15, 17]  # near that, both are decoded
    assert needless([*order], [9.0]) == [10, 14, 12, 11, 13, 16, 15, 17]  # 18 is shown until something else is


def test_a_packet_whose_time_is_in_doubt_is_not_needless() -> None:
    assert needless([10, 12, 12, 14, 16], [9.0]) == [10, 14]
    assert needless([*range(10, 18), None, *range(18, 30)], [9.0]) == [10, 11, 12, 13]  # nothing that comes after is sure


def test_an_error_of_the_file_comes_after_the_packets_before_it() -> None:
    wanted = WantedTimes([])
    judged = judge(_Packets([10, 12, 11], fails=True), wanted, base=Fraction(1, 10), origin_seconds=0.0)
    assert [(p.pts, n) for p, n in (next(judged), next(judged), next(judged))] == [(10, True), (12, False), (11, True)]
    with pytest.raises(av.error.InvalidDataError):
        next(judged)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60), st.lists(st.floats(0, 21), max_size=30))
def test_no_picture_that_is_shown_at_a_wanted_time_is_needless(pts: list[int], times: list[float]) -> None:
    left_out = Counter(needless([*pts], sorted(times)))
    for wanted in times:
        begun = [tick for tick in pts if tick / 10 - 1.0 <= wanted + 0.0005]
        if begun:
            assert left_out[max(begun)] == 0
    assert left_out[max(pts)] == 0  # where the video ends must be known


@given(st.lists(st.floats(0, 100)), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100))))
def test_looking_ahead_takes_no_time_away(times: list[float], looks: list[tuple[float, float]]) -> None:
    wanted = WantedTimes(sorted(times))
    seen = []
    for taken in wanted:
        assert wanted.any_in(taken, taken)
        seen.append(taken)
        if looks:
            start, end = looks.pop()
            assert wanted.any_in(start, end) == any(start <= time <= end for time in sorted(times)[len(seen) - 1 :])
    assert seen == sorted(times)
