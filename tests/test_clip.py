"""Cutting a part out of a video: which pictures are in it, and when, what is heard with them, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.decode.cut import Cut, cut
from indexer.errors import ConfigError, NotMedia, OutputError, SourceError, StopRun
from indexer.records import Failure, Video
from indexer.search_view import cut_clip
from tests.archives import Archive
from tests.s3 import S3Place
from tests.test_search import A, store
from tests.videos import number_of, pattern, write_video

RATE = 48_000


def write_with_sound(path: Path, *, turned: int = 0, aspect: Fraction = Fraction(1), tracks: int = 1) -> Path:
    """Six seconds at 25 fps, a key frame every two, B-frames between. The sound is loud in the first half of each second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(
            "libx264", rate=25, options={"bf": "2", "sc_threshold": "0", "preset": "ultrafast", "b-pyramid": "none"}
        )
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.gop_size, video.codec_context.sample_aspect_ratio = 50, aspect
        if turned:
            video.set_display_rotation(turned)
        sounds = [out.add_stream("aac", rate=RATE, layout="stereo") for _ in range(tracks)]
        samples = 0
        for number in range(150):
            frame = av.VideoFrame.from_ndarray(pattern(number, width=160, height=120), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
            while samples < (number + 1) * RATE / 25:
                seconds = np.arange(samples, samples + 1024) / RATE
                wave = np.where(seconds % 1 < 0.5, 0.8, 0.1) * np.sin(2 * np.pi * 440 * seconds)
                for sound in sounds:
                    heard = av.AudioFrame.from_ndarray(
                        np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo"
                    )
                    heard.sample_rate, heard.pts, heard.time_base = RATE, samples, Fraction(1, RATE)
                    out.mux(sound.encode(heard))
                samples += 1024
        for stream in (video, *sounds):
            out.mux(stream.encode(None))
    return path


class Seen(NamedTuple):
    times: list[float]
    numbers: list[int]
    """What `pattern` wrote, mod 28."""
    codec: str
    size: tuple[int, int]
    aspect: Fraction
    rotation: int
    loud: list[list[float]]
    """When the sound becomes loud or quiet, seconds; for each track."""


def look(path: Path) -> Seen:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = [
            (frame.time, number_of(frame.to_ndarray(format="rgb24")), frame.rotation) for frame in container.decode(video)
        ]
        aspect = video.sample_aspect_ratio or Fraction(1)
        codec, size = video.codec_context.name, (video.width, video.height)
        tracks = len(container.streams.audio)
    loud = []
    for track in range(tracks):
        with av.open(str(path)) as container:
            heard = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=track)]
        wave = np.abs(np.concatenate([samples for _, samples in heard]))
        louder = [wave[n : n + 480].max() > 0.4 for n in range(0, len(wave), 480)]  # every 10 ms
        inner = range(5, len(louder) - 5)  # an encoder needs some samples to settle
        loud.append([round(heard[0][0] + n / 100, 2) for n in inner if louder[n] != louder[n - 1]])
    times, numbers, rotations = zip(*frames, strict=True)
    return Seen(list(times), list(numbers), codec, size, aspect, rotations[-1], loud)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_with_sound(tmp_path_factory.mktemp("clip") / "source.mp4")


def expected(start: float, end: float) -> tuple[list[float], list[int]]:
    """Times and numbers of the pictures of the source that are shown in [start, end), by its 25 fps."""
    numbers = [n for n in range(150) if start < (n + 1) / 25 - 1e-6 and n / 25 < end - 1e-6]
    return [max(n / 25 - start, 0.0) for n in numbers], [n % 28 for n in numbers]


@pytest.mark.parametrize(
    ("start", "end", "copied"),
    [
        (0.0, 2.0, True),
        (2.0, 6.0, True),
        (1.99, 4.0, False),  # the picture before a key frame is shown
        (2.01, 4.0, True),  # so is the key frame, from a bit earlier on
        (2.0, 3.02, False),
        (2.5, 3.7, False),
        (0.1, 0.13, False),
        (5.9, 99.0, False),
    ],
)
def test_the_pictures_and_the_sound_of_the_part(source: Path, tmp_path: Path, start: float, end: float, copied: bool) -> None:
    target = tmp_path / "clip.mp4"
    done = cut(str(source), target, start, end)
    assert (done.copied, done.end_seconds) == (copied, min(end, 6.0))
    found = look(target)
    times, numbers = expected(done.start_seconds, done.end_seconds)
    assert found.numbers == numbers
    assert found.times == pytest.approx(times, abs=0.001)
    changes = [n / 2 - done.start_seconds for n in range(1, 12) if done.start_seconds + 0.05 < n / 2 < done.end_seconds - 0.05]
    assert found.loud == [pytest.approx(changes, abs=0.03)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


def test_copy_begins_at_the_key_frame_before_and_keeps_every_packet(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "clip.mov"
    assert cut(str(source), target, 3.5, 5.0, copy=True) == Cut(2.0, 5.0, copied=True)
    found = look(target)
    assert found.numbers[:75] == [n % 28 for n in range(50, 125)]
    assert found.times[0] == 0.0

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert set(packets(target)) <= set(packets(source))


@pytest.mark.parametrize("copy", [False, True])
def test_rotation_aspect_and_all_sound_are_kept(tmp_path: Path, copy: bool) -> None:
    path = write_with_sound(tmp_path / "phone.mp4", turned=90, aspect=Fraction(4, 3), tracks=2)
    cut(str(path), tmp_path / "clip.mp4", 2.6, 3.7, copy=copy)
    found = look(tmp_path / "clip.mp4")
    assert (found.size, found.aspect, found.rotation) == ((160, 120), Fraction(4, 3), 90)
    # It becomes quiet at 2.5 and 3.5 s, loud at 3 s.
    assert found.loud == 2 * [pytest.approx([0.5, 1.0, 1.5] if copy else [0.4, 0.9], abs=0.03)]


def test_a_variable_frame_rate_stays_variable(tmp_path: Path) -> None:
    path = write_video(tmp_path / "vfr.mkv", frames=30, pts=[100 * n + (n % 3) * 20 for n in range(30)], gop=30)
    assert not cut(str(path), tmp_path / "clip.mp4", 1.0, 1.5).copied
    found = look(tmp_path / "clip.mp4")
    assert found.numbers == [9, 10, 11, 12, 13, 14]
    # 0.9, 1.02, 1.14, 1.2, 1.32, 1.44 in the source
    assert found.times == pytest.approx([0.0, 0.02, 0.14, 0.2, 0.32, 0.44], abs=0.001)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", {"codec": "mpeg4"}),
        ("a.ts", {}),
        ("a.h264", {}),  # without any times
        ("odd.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "width": 161, "height": 121}),
        ("rgb.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
        ("ten.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}),
        ("jpeg.mov", {"codec": "mjpeg", "pix_fmt": "yuvj422p"}),
    ],
)
def test_other_containers_and_pixel_formats(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = write_video(tmp_path / name, frames=50, **{"width": 160, "height": 120} | options, picture=None)
    assert cut(str(path), tmp_path / "clip.mp4", 1.03, 1.4) == Cut(1.03, 1.4, copied=False)
    found = look(tmp_path / "clip.mp4")
    assert found.numbers == [25, 26, 27, 0, 1, 2, 3, 4, 5, 6]
    assert found.times == pytest.approx([0, *(n / 25 - 0.03 for n in range(1, 10))], abs=0.001)
    assert (found.codec, found.size) == ("h264", (160, 120))


@pytest.mark.parametrize(
    ("options", "colorspace", "color_range"),
    [
        ({"colorspace": 1, "color_range": 2}, 1, 2),
        ({"colorspace": 5, "color_range": 1}, 5, 1),
        ({"codec": "ffv1", "pix_fmt": "bgr0"}, 1, 1),
    ],
)
def test_colours_are_kept(tmp_path: Path, options: dict[str, Any], colorspace: int, color_range: int) -> None:
    path = write_video(tmp_path / "colours.mkv", frames=30, width=160, height=120, **options)
    cut(str(path), tmp_path / "clip.mp4", 0.53, 0.9)
    pictures = []
    for file, number in ((path, 13), (tmp_path / "clip.mp4", 0)):
        with av.open(str(file)) as container:
            frame = list(container.decode(video=0))[number]
        shown = frame.reformat(format="rgb24", src_colorspace=frame.colorspace, src_color_range=frame.color_range)
        pictures.append(shown.to_ndarray().astype(int))
    assert (frame.colorspace, frame.color_range) == (colorspace, color_range)
    assert np.abs(pictures[0] - pictures[1]).mean() < 3


def test_a_codec_that_the_file_cannot_hold_is_encoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "old.webm", frames=50, codec="libvpx", width=160, height=120)
    assert not cut(str(path), tmp_path / "clip.mp4", 0.0, 1.0).copied
    assert look(tmp_path / "clip.mp4").codec == "h264"
    assert cut(str(path), tmp_path / "clip.mkv", 0.0, 1.0).copied
    assert look(tmp_path / "clip.mkv").codec == "vp8"


# What is refused


def test_the_source_ends_before(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source.mp4 ends at 6.000 s: it has nothing at 6.000 s"):
        cut(str(source), tmp_path / "clip.mp4", 6.0, 7.0)


def test_no_video_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video at all, only some words")
    with pytest.raises(NotMedia):
        cut(str(path), tmp_path / "clip.mp4", 0, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.mp4"]


@pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.mp4.txt"])
def test_a_clip_is_a_file_of_a_few_kinds(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"a clip is written to a file whose name ends in one of \.mp4, \.mov, \.mkv"):
        cut(str(source), tmp_path / name, 0, 1)


def test_a_folder_that_is_not_there(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        cut(str(source), tmp_path / "missing" / "clip.mp4", 0, 1)


# The command


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Three videos that an index knows, two of one name."""
    archive = Archive(tmp_path)
    archive.add("fair.mp4")
    archive.add("other/fair.mp4", first=30)
    archive.add("sea.mp4", first=60)
    engine = open_catalog(load_job(archive.write_job()).output.catalog, create=True)
    videos = [Video(str(path), "1", 1, 1.0) for path in archive.videos.rglob("*.mp4")]
    store(engine, A, *[Failure(video, "E_TIMEOUT", "known all the same") for video in videos])
    engine.dispose()
    monkeypatch.chdir(tmp_path)
    return archive


def clip(span: str, target: str, **options: Any) -> None:
    settings = {"path": None, "copy": False, "force": False, "as_json": False} | options
    cut_clip(span, Path(target), **settings)


def test_clip_names_a_video_by_the_end_of_its_path(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    clip("sea.mp4@0:00.5-1", "clip.mp4", path=archive.job_path, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "uri": str(archive.videos / "sea.mp4"),
        "start_seconds": 0.5,
        "end_seconds": 1.0,
        "copied": False,
        "file": "clip.mp4",
    }
    assert look(Path("clip.mp4")).numbers == [n % 28 for n in range(72, 85)]
    clip("other/FAIR.mp4@0-1", "fair.mp4", path=archive.job_path)
    assert (
        capsys.readouterr().err
        == f"fair.mp4: 00:00:00.000 to 00:00:01.000 of {archive.videos}/other/fair.mp4, copied as it is\n"
    )
    clip(f"{archive.videos}/fair.mp4@0-1", "plain.mp4", path=archive.job_path)
    with pytest.raises(
        ConfigError, match=f"'fair.mp4' may be any of {archive.videos}/fair.mp4, {archive.videos}/other/fair.mp4;"
    ):
        clip("fair.mp4@0-1", "new.mp4", path=archive.job_path)
    with pytest.raises(ConfigError, match=r"no video of the index is called 'air\.mp4'"):
        clip("air.mp4@0-1", "new.mp4", path=archive.job_path)


def test_clip_replaces_a_file_only_when_told_and_its_source_never(archive: Archive) -> None:
    source, other = Path("videos/sea.mp4"), Path("other.mp4")
    before = source.read_bytes()
    other.write_text("precious")
    with pytest.raises(ConfigError, match=r"other\.mp4 exists; choose another name, or replace it with --force"):
        clip("videos/sea.mp4@0-1", "other.mp4")
    assert other.read_text() == "precious"
    clip("videos/sea.mp4@0-1", "other.mp4", force=True)
    assert len(look(other).times) == 25
    Path("link.mp4").hardlink_to(source)
    for target in ("videos/sea.mp4", "link.mp4"):
        with pytest.raises(ConfigError, match="is the video itself, which is never written to"):
            clip("videos/sea.mp4@0-1", target, force=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("span", "code", "message"),
    [
        ("videos/none.mp4@0-1", 10, "/videos/none.mp4 does not exist"),
        ("videos/caf\udce9.mp4@0-1", 10, "/videos/caf\\udce9.mp4 does not exist"),
        ("job.yaml@0-1", 10, "/job.yaml is not a video: no known container format in it"),
        (
            "https://bucket/a.mp4@0-1",
            2,
            "https://bucket/a.mp4: a clip is cut out of a local file, or of one in S3",
        ),
        ("videos/sea.mp4", 2, "is no part of a video; write URI@START-END, such as fair.mp4@12:30-12:50"),
    ],
)
def test_what_clip_says_of_what_it_cannot_cut(archive: Archive, span: str, code: int, message: str) -> None:
    with pytest.raises(StopRun) as caught:
        clip(span, "clip.mp4")
    assert caught.value.exit_code == code
    assert message in str(caught.value)


def test_a_clip_of_a_video_in_s3_is_that_of_the_file(archive: Archive, s3: S3Place) -> None:
    source = Path("videos/sea.mp4")
    s3.put("masters/a & b.mp4", source.read_bytes())
    for copy in (True, False):
        clip(f"{s3.uri}/masters/a & b.mp4@1.2-1.5", "far.mp4", copy=copy, force=True)
        clip("videos/sea.mp4@1.2-1.5", "near.mp4", copy=copy, force=True)
        assert look(Path("far.mp4")) == look(Path("near.mp4"))
    with pytest.raises(SourceError, match=r"none\.mp4: there is no such object"):
        clip(f"{s3.uri}/none.mp4@0-1", "none.mp4")
    assert not Path("none.mp4").exists()


def test_clip_as_a_command(archive: Archive) -> None:
    done = archive.command("clip", "videos/sea.mp4@1-1.5", "-o", "clip.mp4", "--copy")
    assert (done.returncode, done.stdout) == (0, "")
    assert len(look(Path("clip.mp4")).times) == 13
    again = archive.command("clip", "videos/sea.mp4@1-1.5", "-o", "clip.mp4")
    assert (again.returncode, again.stderr) == (2, "clip.mp4 exists; choose another name, or replace it with --force\n")
