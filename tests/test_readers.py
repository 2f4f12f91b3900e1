"""One contract for every reader: for the same time the same frame, or the file is refused."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # whoever loads decord first makes torch crash in this process; the program loads the model first

from indexer.decode.keyframes import read_key_frames
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import open_video
from indexer.decode.readers import Reader, open_reader
from indexer.decode.readers.nvdec import NvdecReader
from indexer.decode.readers.pyav import PyavReader
from indexer.errors import ReaderRefused
from indexer.records import ClipGeometry
from tests.videos import Picture, hold_last, number_of, pattern, write_video

BACKENDS = ["pyav", "decord", "nvdec"]
NO_TORCHCODEC = "torchcodec is not installed (the extra `nvdec`), or finds no FFmpeg"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = ClipGeometry(16, 15, (128, 171), (112, 160))
REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"


def read(path: Path, times: list[float], backend: str = "pyav") -> list[Picture | None]:
    video = open_video(str(path), max_pixels=36_000_000)
    try:
        sampler = Sampler(SMALL, aspect=video.aspect)
        if backend == "nvdec":
            pytest.importorskip("torchcodec", reason=NO_TORCHCODEC, exc_type=ImportError)
            return list(NvdecReader(video, sampler, _nobody, device=DEVICE).pictures(times))
        return list(open_reader(backend, video, read_key_frames(video), sampler).pictures(times))
    finally:
        video.close()


def _nobody() -> Reader:
    pytest.fail("lost its place in a sound file")


def numbers(path: Path, times: list[float], backend: str = "pyav") -> list[int | None]:
    return [None if picture is None else number_of(picture) for picture in read(path, times, backend)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_frame_shown_at_a_time_is_the_last_one_that_began(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=25)
    assert numbers(path, [0.0, 0.039, 0.04, 0.05, 0.48, 0.96], backend) == [0, 0, 1, 1, 12, 24]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_shown_after_the_end(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=25)
    assert numbers(path, [0.96, 0.999, 1.01, 7.0], backend) == [24, 24, None, None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_last_picture_is_shown_as_long_as_its_file_says_but_stands_for_five_seconds(tmp_path: Path, backend: str) -> None:
    silent = write_video(tmp_path / "v.mp4", frames=25, options={"bf": "0"})
    assert numbers(hold_last(silent, tmp_path / "2.mp4", seconds=2), [0.96, 2.9, 3.0], backend) == [24, 24, None]
    assert numbers(hold_last(silent, tmp_path / "20.mp4", seconds=20), [0.96, 5.9, 6.1], backend) == [24, 24, None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_variable_frame_rates_are_read_by_pts(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mkv", frames=6, pts=[0, 40, 500, 540, 2000, 2040])
    assert numbers(path, [0.0, 0.3, 0.49, 0.51, 1.9, 2.01, 2.05], backend) == [0, 1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_frame_rates_below_the_models_repeat_frames(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=12, fps=6)
    assert numbers(path, [k / 15 for k in range(10)], backend) == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_broadcast_frame_rates_do_not_drift(tmp_path: Path, backend: str) -> None:
    rate = Fraction(30000, 1001)
    path = write_video(tmp_path / "v.mp4", frames=28, fps=rate)
    assert numbers(path, [float(k / rate) for k in range(28)], backend) == list(range(28))


@pytest.mark.parametrize("backend", BACKENDS)
def test_b_frames_come_in_the_order_they_are_shown(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=28, options={"bf": "8", "x264-params": "b-adapt=0"})
    assert numbers(path, [k / 25 for k in range(28)], backend) == list(range(28))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hole_in_the_recording_shows_nothing(tmp_path: Path, backend: str) -> None:
    path = write_video(tmp_path / "v.mkv", frames=4, pts=[0, 40, 60_000, 60_040])
    assert numbers(path, [0.05, 4.0, 30.0, 59.9, 60.0], backend) == [1, 1, None, None, 2]


def test_seeking_gives_the_frames_that_reading_gives(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=28 * 20, gop=25, options={"bf": "3"})
    wanted = [1.0, 1.04, 6.5, 6.54, 14.0, 21.32, 22.36]
    video = open_video(str(path), max_pixels=36_000_000)
    reader = PyavReader(video, read_key_frames(video), Sampler(SMALL))
    found = [number_of(picture) for picture in reader.pictures(wanted) if picture is not None]
    video.close()
    assert found == [int(t * 25 + 0.01) % 28 for t in wanted]
    assert reader.frames_decoded < 150  # of 560: it did seek


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_sparse_reading_decodes_only_what_is_near(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", frames=500, gop=25)
    video = open_video(str(path), max_pixels=36_000_000)
    reader = PyavReader(video, read_key_frames(video), Sampler(SMALL))
    pictures = list(reader.pictures([5.0, 10.0, 15.0]))
    video.close()
    assert [number_of(p) for p in pictures if p is not None] == [125 % 28, 250 % 28, 375 % 28]
    assert reader.frames_decoded < 60


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_a_key_frame_is_found_where_it_is_shown(tmp_path: Path, suffix: str, b_frames: int) -> None:
    """MP4 lists key frames by the time they are decoded, which is earlier where frames are put in another order."""
    path = write_video(tmp_path / f"v.{suffix}", frames=200, gop=50, options={"bf": str(b_frames)})
    video = open_video(str(path), max_pixels=36_000_000)
    key_frames = read_key_frames(video)
    assert key_frames.shown == pytest.approx([0.0, 2.0, 4.0, 6.0])
    reader = PyavReader(video, key_frames, Sampler(SMALL))
    pictures = list(reader.pictures([2.0, 4.0, 6.0]))
    video.close()
    assert [number_of(p) for p in pictures if p is not None] == [50 % 28, 100 % 28, 150 % 28]
    assert reader.frames_decoded <= 2 + 3 * (2 + b_frames)


def test_times_are_counted_from_where_a_player_starts(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "v.mp4", frames=25)
    stream = write_video(tmp_path / "v.ts", frames=25)  # MPEG-TS begins at 1.4 s
    assert numbers(stream, [0.0, 0.5]) == numbers(plain, [0.0, 0.5])


def test_decord_refuses_files_without_frame_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=10, codec="mpeg4")
    with pytest.raises(ReaderRefused, match="stores no frame times"):
        read(path, [0.0], "decord")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pix_fmt": "yuv420p10le"}, "its colours are not the usual ones"),
        ({"pix_fmt": "yuv444p"}, "its colours are not the usual ones"),
        ({"options": {"flags": "+ildct", "x264-params": "interlaced=1"}}, "its pictures are interlaced"),
    ],
)
def test_nvdec_refuses_what_it_would_show_otherwise(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=10, **options)
    with pytest.raises(ReaderRefused, match=reason):
        read(path, [0.0], "nvdec")


def test_what_nvdec_refuses_pyav_reads(tmp_path: Path) -> None:
    """Here, it refuses everything: there is no GPU, or no torchcodec."""
    video = open_video(str(write_video(tmp_path / "v.mp4", frames=25)), max_pixels=36_000_000)
    reader = open_reader("nvdec", video, read_key_frames(video), Sampler(SMALL))
    assert [number_of(p) for p in reader.pictures([0.0, 0.5, 0.96]) if p is not None] == [0, 12, 24]
    video.close()
    if not torch.cuda.is_available():
        assert isinstance(reader, PyavReader)


def test_where_nvdec_loses_its_place_pyav_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torchcodec", reason=NO_TORCHCODEC, exc_type=ImportError)
    path = _damaged(write_video(tmp_path / "v.mp4", frames=100, gop=10))
    times = [k / 25 for k in range(100)]
    video = open_video(str(path), max_pixels=36_000_000)
    key_frames, sampler = read_key_frames(video), Sampler(SMALL)
    reader = NvdecReader(video, sampler, lambda: PyavReader(video, key_frames, sampler), device="cpu")
    found = [number_of(picture) for picture in reader.pictures(times) if picture is not None]
    video.close()
    assert found == numbers(path, times)
    assert reader.warnings == ("W_DECODE_ERRORS",)


def test_avi_is_timed_by_its_packets(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=20, codec="mpeg4", options={"bf": "2"})
    assert numbers(path, [0.0, 0.2, 0.76]) == [0, 5, 19]


def test_streams_without_times_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.h264", frames=25)
    video = open_video(str(path), max_pixels=36_000_000)
    assert (video.clock, video.info.duration_seconds) == ("counted", 1.0)
    reader = PyavReader(video, read_key_frames(video), Sampler(SMALL))
    assert [number_of(p) for p in reader.pictures([0.0, 0.4, 0.96]) if p is not None] == [0, 10, 24]
    video.close()


def _damaged(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + 4 + 3000
    data[begin : begin + 800] = bytes(800)
    path.write_bytes(data)
    return path


def test_a_damaged_middle_costs_its_frames_only(tmp_path: Path) -> None:
    path = _damaged(write_video(tmp_path / "v.mp4", frames=100, gop=10))
    video = open_video(str(path), max_pixels=36_000_000)
    reader = PyavReader(video, read_key_frames(video), Sampler(SMALL))
    pictures = list(reader.pictures([0.0, 3.9]))
    video.close()
    assert [number_of(p) for p in pictures if p is not None] == [0, 97 % 28]
    assert reader.end_seconds is None or reader.end_seconds > 3.9


SHOWN_OTHERWISE: dict[str, dict[str, Any]] = {
    "turned": {"rotation": 90},
    "wide": {"aspect": Fraction(2)},
    "upside down": {"rotation": 180},
    "turned and wide": {"rotation": 90, "aspect": Fraction(2)},
    "interlaced": {"options": {"x264-params": "interlaced=1"}},
}


@pytest.mark.parametrize("way", SHOWN_OTHERWISE)
def test_what_is_shown_otherwise_than_stored_is_shown_alike_or_refused(tmp_path: Path, way: str) -> None:
    def stripes(number: int) -> Picture:
        picture = pattern(number)
        picture[1::2, :80] = 250 - picture[1::2, :80]  # what a field alone does not show
        return picture

    path = write_video(tmp_path / "v.mp4", frames=10, picture=stripes, **SHOWN_OTHERWISE[way])
    times = [0.0, 0.2]
    ours = read(path, times)
    assert all(picture is not None for picture in ours)
    if way in ("turned and wide", "interlaced"):
        with pytest.raises(ReaderRefused, match="turned" if way == "turned and wide" else "interlaced"):
            read(path, times, "decord")
        return
    for left, right in zip(ours, read(path, times, "decord"), strict=True):
        assert left is not None
        assert right is not None
        assert np.abs(left.astype(int) - right.astype(int)).mean() <= 3.0


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the folder of real videos is not here")
def test_readers_agree_on_real_videos(tmp_path: Path) -> None:
    compared, refused = 0, []
    for path in sorted(REAL_VIDEOS.glob("*.[ma][pkov][v4i]")):
        copy = Path(shutil.copy(path, tmp_path))
        video = open_video(str(copy), max_pixels=36_000_000)
        times = [float(t) for t in np.arange(video.info.start_seconds, video.info.duration_seconds, 0.35)]
        video.close()
        ours = read(copy, times)
        try:
            theirs = read(copy, times, "decord")
        except ReaderRefused:
            refused.append(path.name)
            continue
        for left, right in zip(ours, theirs, strict=True):
            assert (left is None) == (right is None)
            if left is not None and right is not None:
                assert np.abs(left.astype(int) - right.astype(int)).mean() <= 3.0, path.name
                compared += 1
    assert refused == ["avi_h264_no_pts_1080p.avi", "mpeg4_part2.avi"]
    assert compared > 150
