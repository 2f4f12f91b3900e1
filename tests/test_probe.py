"""What a file says of itself, and what is really there: lengths, clocks, cuts, kinds."""

import shutil
import subprocess
import sys
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from indexer.decode.cut import cut
from indexer.decode.frames import jpeg_at
from indexer.decode.keyframes import read_key_frames
from indexer.decode.packets import goes_on
from indexer.decode.preprocess import Sampler
from indexer.decode.probe import open_video
from indexer.decode.readers.pyav import PyavReader
from indexer.decode.sampling import clip_spans
from indexer.decode.video import _clips
from indexer.errors import VideoError, VideoSkip
from tests.test_decode import GEOMETRY, decode
from tests.videos import number_of, pattern, with_sound, write_video

REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"


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


def shorten(path: Path, share: float) -> Path:
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


@pytest.mark.parametrize(
    ("suffix", "codec", "first_frames"), [("ts", "libx264", 75), ("ts", "libx264", 25), ("mpg", "mpeg2video", 75)]
)
def test_the_pieces_of_a_joined_stream_follow_each_other(tmp_path: Path, suffix: str, codec: str, first_frames: int) -> None:
    first = write_video(tmp_path / f"a.{suffix}", frames=first_frames, codec=codec)
    second = write_video(
        tmp_path / f"b.{suffix}", frames=50, codec=codec, picture=lambda number: pattern(number + first_frames)
    )
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    clips, end = decode(joined)
    assert end.info.duration_seconds == pytest.approx(first_frames / 25 + 2)
    assert [clip[0] for clip in clips] == [(25 * second + 7) % 28 for second in range(first_frames // 25 + 2)]
    assert end.warnings == ("W_TIMESTAMPS",)
    assert decode(first)[1].warnings == ()


def test_pictures_and_clips_of_a_joined_stream_are_those_of_its_times(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.ts", frames=75)
    second = write_video(tmp_path / "b.ts", frames=50, picture=lambda number: pattern(number + 75))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(BytesIO(jpeg_at(str(joined), 4.5, width=320, max_pixels=36_000_000))) as shown:
        assert number_of(next(shown.decode(video=0)).to_ndarray(format="rgb24")) == 112 % 28
    clip = tmp_path / "clip.mp4"
    assert cut(str(joined), clip, 4.0, 4.4) == (4.0, 4.4, False)
    with av.open(str(clip)) as container:
        assert [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)] == [
            number % 28 for number in range(100, 110)
        ]


LONGER_SOUND = [
    ("mkv", "libx264"),
    ("flv", "flv1"),
    ("flv", "libx264"),
    ("wmv", "wmv2"),
    ("nut", "mpeg4"),
    ("mp4", "libx264"),
    ("mpg", "mpeg2video"),
]


@pytest.mark.parametrize(("suffix", "codec"), LONGER_SOUND)
def test_pictures_that_end_before_the_sound_are_all_there(tmp_path: Path, suffix: str, codec: str) -> None:
    silent = write_video(tmp_path / f"silent.{suffix}", frames=50, codec=codec)
    _, end = decode(with_sound(silent, tmp_path / f"v.{suffix}", seconds=40))
    assert (end.info.duration_seconds, len(end.segments), end.warnings) == (pytest.approx(2.0, abs=0.1), 2, ())


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("flv", "libx264")])
@pytest.mark.parametrize("sound_seconds", [10, 30])
def test_a_cut_file_is_cut_however_long_its_sound_was(tmp_path: Path, suffix: str, codec: str, sound_seconds: int) -> None:
    silent = write_video(tmp_path / f"silent.{suffix}", frames=250, codec=codec)
    path = shorten(with_sound(silent, tmp_path / f"v.{suffix}", seconds=sound_seconds), 0.2)
    assert outcome(path, min_coverage=0.9)[0] == "E_TRUNCATED"


@pytest.mark.parametrize("tags", ["no tag", "FFmpeg's", "mkvmerge's"])
def test_the_pictures_of_a_matroska_file_end_where_its_tags_say(tmp_path: Path, tags: str) -> None:
    """FFmpeg tags a stream with its end, mkvmerge with its length; without a tag, sound to the end of the file tells."""
    pictures = write_video(tmp_path / "silent.mkv", frames=50, options={"bf": "0"}, pts=range(3000, 5000, 40))
    others = {"_STATISTICS_TAGS": "BPS DURATION"} if tags == "mkvmerge's" else {}
    path = with_sound(pictures, tmp_path / "v.mkv", seconds=20, tags=others)
    data = path.read_bytes()
    end = b"00:00:05.000000000"
    assert data.count(end) == 1
    if tags == "mkvmerge's":
        data = data.replace(end, b"00:00:02.000000000")
    elif tags == "no tag":
        data = data.replace(b"DURATION", b"DIRECTOR")
    path.write_bytes(data)
    _, found = decode(path)
    assert (found.info.start_seconds, found.info.duration_seconds) == (pytest.approx(3.0), pytest.approx(2.0, abs=0.01))
    assert found.warnings == ()


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


def test_a_second_mp4_in_the_file_of_the_first_is_said_to_be_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=25)
    path.write_bytes(path.read_bytes() * 2)
    assert decode(path)[1].warnings == ("W_TRAILING",)


def test_a_claim_of_years_costs_no_look_at_each_of_their_seconds(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=50)
    days = b"\x44\x89\x88" + np.array(1000.0 * 30 * 86_400, ">f8").tobytes()
    untagged = path.read_bytes().replace(b"DURATION", b"DIRECTOR")
    path.write_bytes(untagged.replace(b"\x44\x89\x88" + np.array(2000.0, ">f8").tobytes(), days))
    assert outcome(path, segment_seconds=60.0)[1].startswith("ends after 0% of the 2592000.0 s that it claims")
    video = open_video(str(path), max_pixels=36_000_000)
    reader = PyavReader(video, read_key_frames(video), Sampler(GEOMETRY))
    spans = clip_spans(0.0, 2592000.0, segment_seconds=60.0, clips=1, span_seconds=GEOMETRY.span_seconds)
    assert len(list(_clips(reader, spans, GEOMETRY))) <= 1
    video.close()


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_a_matroska_file_of_which_little_is_there_is_no_short_video(tmp_path: Path, share: float) -> None:
    code, sentence = outcome(shorten(write_video(tmp_path / "v.mkv", frames=250), share))
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
    code, _ = outcome(shorten(write_video(tmp_path / "v.flv", frames=250, codec="flv1"), 0.03))
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


def test_one_of_two_streams_is_indexed_and_the_other_told(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(320, 240), (160, 120)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(25):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(pattern(number, width=stream.width, height=stream.height), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    _, end = decode(path)
    assert ((end.info.width, end.info.height), end.warnings) == ((320, 240), ("W_MULTI_VIDEO",))


def test_high_dynamic_range_is_told(tmp_path: Path) -> None:
    assert decode(write_video(tmp_path / "v.mp4", frames=25, color_trc=16))[1].warnings == ("W_HDR",)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_title_in_other_letters_than_utf_8_is_no_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    plain = write_video(tmp_path / f"plain.{suffix}", codec="mpeg4")
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        target.metadata["title"] = "Cafe? by the sea"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    written = path.read_bytes()
    assert b"Cafe? by the sea" in written
    path.write_bytes(written.replace(b"Cafe? by the sea", b"Caf\xe9s by the sea"))  # in Latin-1
    clips, end = decode(path)
    assert (clips, end.warnings) == ([[7, 10, 12, 15], [4, 7, 9, 12]], ())


def test_times_that_repeat_are_repaired_and_told(tmp_path: Path) -> None:
    """Four of five frames have the time of the one before them."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(pattern(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = number - number % 5
                container.mux(packet)
    clips, end = decode(path)
    assert all(before < after for clip in clips for before, after in pairwise(clip))
    assert end.warnings == ("W_TIMESTAMPS",)


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        ({"aspect": Fraction(4, 3)}, (427, 240)),
        ({"rotation": 90}, (240, 320)),
        ({"rotation": 180}, (320, 240)),
        ({"rotation": 90, "aspect": Fraction(4, 3)}, (240, 427)),
    ],
)
def test_the_size_is_that_of_the_picture_as_shown(tmp_path: Path, stored: dict[str, Any], size: tuple[int, int]) -> None:
    _, end = decode(write_video(tmp_path / "v.mp4", frames=5, **stored))
    assert (end.info.width, end.info.height) == size


REAL = {
    "two_video_streams.mp4": (13.013, 480, 270, "h264", ("W_MULTI_VIDEO",)),
    "av1.mkv": (5.0, 640, 360, "av1", ()),
    "avi_h264_no_pts_1080p.avi": (3.433, 1920, 1080, "h264", ()),
    "six_fps.mp4": (9.5, 340, 256, "h264", ()),
    "hevc_10bit.mp4": (1.0, 200, 200, "hevc", ()),
    "rot_0.mov": (0.1, 568, 320, "h264", ("W_SHORT",)),
    "rot_90.mov": (0.1, 320, 568, "h264", ("W_SHORT",)),
    "rot_270.mov": (0.1, 320, 568, "h264", ("W_SHORT",)),
    "unordered_pts.mov": (0.125, 50, 50, "h264", ("W_SHORT",)),
}


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the folder of real videos is not here")
@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_what_they_are(tmp_path: Path, name: str) -> None:
    _, end = decode(Path(shutil.copy(REAL_VIDEOS / name, tmp_path)), segment_seconds=5.0)
    info = end.info
    assert (round(info.duration_seconds, 3), info.width, info.height, info.codec, end.warnings) == REAL[name]
    assert end.segments[-1].end_seconds == pytest.approx(info.start_seconds + info.duration_seconds)


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
