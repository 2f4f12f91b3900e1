"""What a file says of itself, and what is really there: lengths, clocks, cuts, kinds."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from indexer.decode.packets import goes_on
from indexer.decode.probe import open_video
from indexer.errors import VideoError, VideoSkip
from tests.test_decode import decode
from tests.videos import pattern, write_video


class Pipe:
    """Something that is written to and cannot be wound back, as a live stream is."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()


def write_live(path: Path, times_ms: list[int]) -> Path:
    pipe = Pipe(path)
    with av.open(pipe, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(pattern(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pipe.close()
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def outcome(path: Path, **settings: object) -> tuple[str, str]:
    """The code or reason, and the sentence, with which a video is not indexed."""
    with pytest.raises((VideoError, VideoSkip)) as caught:
        decode(path, **settings)
    return getattr(caught.value, "code", getattr(caught.value, "reason", "")), str(caught.value)


def test_a_live_stream_that_states_no_length_is_indexed_to_its_end(tmp_path: Path) -> None:
    path = write_live(tmp_path / "live.mkv", [*range(0, 2000, 40), *range(2000, 12_000, 200)])
    _, end = decode(path)
    assert (end.info.duration_seconds, len(end.segments)) == (pytest.approx(11.84), 12)
    assert end.segments[-1].end_seconds == pytest.approx(11.84)
    assert end.warnings == ()


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video")])
def test_the_pieces_of_a_joined_stream_follow_each_other(tmp_path: Path, suffix: str, codec: str) -> None:
    first = write_video(tmp_path / f"a.{suffix}", frames=75, codec=codec)
    second = write_video(tmp_path / f"b.{suffix}", frames=50, codec=codec, picture=lambda number: pattern(number + 75))
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    clips, end = decode(joined)
    assert end.info.duration_seconds == pytest.approx(5.0)
    assert [clip[0] for clip in clips] == [(25 * second + 7) % 28 for second in range(5)]
    assert end.warnings == ("W_TIMESTAMPS",)
    assert decode(first)[1].warnings == ()


def test_pictures_after_the_stated_end_are_said_to_be_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=100)
    data = path.read_bytes()
    stated = b"\x44\x89\x88" + np.array(4000.0, ">f8").tobytes()
    assert data.count(stated) == 1
    path.write_bytes(data.replace(stated, stated[:3] + np.array(2000.0, ">f8").tobytes()))
    _, end = decode(path)
    assert (end.info.duration_seconds, end.warnings) == (2.0, ("W_TRAILING",))
    video = open_video(str(path), max_pixels=36_000_000)
    assert not goes_on(video.container, video.stream.index, 4.0)
    video.close()


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_a_matroska_file_of_which_little_is_there_is_no_short_video(tmp_path: Path, share: float) -> None:
    code, sentence = outcome(cut(write_video(tmp_path / "v.mkv", frames=250), share))
    assert code == "E_TRUNCATED"
    assert "of the 10.0 s that it claims" in sentence


def test_a_matroska_file_cut_in_its_header_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=50)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:190])
    assert outcome(path) == (
        "E_TRUNCATED",
        f"was cut: 190 of the {size:,} bytes that it claims are there, and no frame can be found in them",
    )


def test_a_flash_file_of_which_little_is_there_is_no_short_video(tmp_path: Path) -> None:
    code, _ = outcome(cut(write_video(tmp_path / "v.flv", frames=250, codec="flv1"), 0.03))
    assert code == "E_TRUNCATED"


@pytest.mark.parametrize("missing", ["nearly all of it", "its second half", "its tables"])
def test_an_mp4_cut_in_its_index_is_cut(tmp_path: Path, missing: str) -> None:
    path = write_video(tmp_path / "v.mp4", frames=50)
    data = path.read_bytes()
    index = data.find(b"moov") - 4
    keep = {"nearly all of it": 100, "its second half": (len(data) - index) // 2, "its tables": len(data) - index - 700}
    path.write_bytes(data[: index + keep[missing]])
    code, sentence = outcome(path)
    assert code == "E_TRUNCATED"
    assert str(tmp_path) not in sentence
    assert "Errno" not in sentence


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"BMW trip to the lake, part 1\n", "E_NOT_MEDIA"),
        (b"BM\x36\x00\x0c\x00\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(50), "still_image"),
        (b"ID3 tags of my songs, and more\n", "E_NOT_MEDIA"),
        (b"ID3\x04\0\0\0\0\x02\x01" + bytes(50), "no_video"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "still_image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "still_image"),
    ],
)
def test_a_kind_is_told_by_more_than_its_first_letters(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert outcome(path)[0] == code


def test_no_picture_is_made_of_a_video_that_is_too_big(tmp_path: Path) -> None:
    """FFmpeg decodes some pictures while it opens a file."""
    side = 4000
    grey = np.full((side, side, 3), 90, np.uint8)
    path = write_video(
        tmp_path / "v.mp4", frames=1, width=side, height=side, picture=lambda _: grey, options={"preset": "ultrafast"}
    )
    code = (
        "import resource, sys; from indexer.decode.probe import open_video; from indexer.errors import TooBig\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used()\n"
        "try: open_video(sys.argv[1], max_pixels=1_000_000)\n"
        "except TooBig as error: print(used() - before, error)"
    )
    said = subprocess.check_output([sys.executable, "-c", code, str(path)], text=True)
    kilobytes, _, sentence = said.partition(" ")
    assert sentence == "has pictures of 4000x4000; decode.max_pixels allows 1,000,000 pixels\n"
    assert int(kilobytes) * 1024 < side * side * 1.5  # the bytes of one picture
