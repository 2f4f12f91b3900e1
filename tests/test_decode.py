"""One video from its file to its packs and last word."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.decode.unit import decode_unit
from indexer.decode.video import DecodeSettings, decode_video
from indexer.errors import VIDEO_ERRORS, SourceFault, VideoError, VideoSkip
from indexer.records import ClipGeometry, ClipPack, Failure, Skipped, Unit, Video, VideoEnd
from indexer.storage.fetch import LocalFile
from indexer.storage.scan import stat_fingerprint
from tests.videos import hold_last, number_of, pattern, write_video

GEOMETRY = ClipGeometry(4, 10, (128, 171), (112, 160))


def settings(**changes: Any) -> DecodeSettings:
    values: dict[str, Any] = {
        "geometry": GEOMETRY, "segment_seconds": 1.0, "clips": 1, "placement": "uniform",
        "backend": "auto", "max_pixels": 36_000_000, "min_coverage": 0.5, "range_seconds": 600.0,
    }  # fmt: skip
    return DecodeSettings(**values | changes)


def listed(path: Path) -> Video:
    return Video(str(path), stat_fingerprint(str(path)), path.stat().st_size, path.stat().st_mtime)


def decode(path: Path, **changes: Any) -> tuple[list[list[int]], VideoEnd]:
    """The numbers of the pictures of each clip, and the last word."""
    items = list(decode_video(listed(path), str(path), settings(**changes)))
    end = items.pop()
    assert isinstance(end, VideoEnd)
    clips = [[number_of(f) for f in clip] for pack in items if isinstance(pack, ClipPack) for clip in pack.frames]
    return clips, end


def test_clips_hold_the_frames_of_their_times(tmp_path: Path) -> None:
    clips, end = decode(write_video(tmp_path / "v.mp4", frames=50))
    assert clips == [[7, 10, 12, 15], [4, 7, 9, 12]]  # 0.3 s to 0.6 s and 1.3 s to 1.6 s at 25 fps, mod 28
    assert [(s.start_seconds, s.end_seconds, s.clips) for s in end.segments] == [(0.0, 1.0, 1), (1.0, 2.0, 1)]
    assert (end.info.width, end.info.height, end.info.codec, end.info.duration_seconds) == (320, 240, "h264", 2.0)
    assert end.warnings == ()


def test_clips_at_key_frames_begin_with_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=100, gop=20, options={"bf": "2", "sc_threshold": "0"})
    clips, end = decode(path, segment_seconds=2.0, placement="keyframe")
    assert clips == [[20, 22, 25, 27], [60 - 56, 62 - 56, 65 - 56, 67 - 56]]  # uniform ones begin at 0.8 s and 2.8 s
    assert [(s.start_seconds, s.end_seconds) for s in end.segments] == [(0.0, 2.0), (2.0, 4.0)]


def test_packs_number_their_clips_through(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=25 * 60, gop=250)
    items = list(decode_video(listed(path), str(path), settings(segment_seconds=0.2, clips=1)))
    packs = [item for item in items if isinstance(item, ClipPack)]
    assert [pack.first_clip for pack in packs] == [0, 4, 43, 82, 121, 160, 199, 238, 277]
    assert [len(pack.frames) for pack in packs] == [4] + [39] * 7 + [23]  # 39 clips of 215,040 bytes are 8 MB


def test_a_video_shorter_than_a_clip_holds_its_last_frame(tmp_path: Path) -> None:
    clips, end = decode(write_video(tmp_path / "v.mp4", frames=3))
    assert clips == [[0, 2, 2, 2]]
    assert end.warnings == ("W_SHORT",)


def test_a_video_of_one_frame_is_indexed(tmp_path: Path) -> None:
    clips, _ = decode(write_video(tmp_path / "v.mp4", frames=1))
    assert clips == [[0, 0, 0, 0]]


def test_overlapping_clips_share_their_frames(tmp_path: Path) -> None:
    clips, _ = decode(write_video(tmp_path / "v.mp4", frames=27), segment_seconds=0.2)
    assert clips == [[0, 2, 5, 7], [2, 5, 7, 10], [7, 10, 12, 15], [12, 15, 17, 20], [17, 19, 22, 24]]


def test_a_hole_in_the_recording_has_no_segments(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=50, pts=[*range(0, 1000, 40), *range(60_000, 61_000, 40)])
    _, end = decode(path)
    assert end.warnings == ("W_GAP",)
    starts = [round(s.start_seconds) for s in end.segments]
    assert starts[:6] == [0, 1, 2, 3, 4, 5]  # a frame may stand for five seconds
    assert starts[6:] == [60]


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_last_picture_that_is_held_for_long_is_no_cut(tmp_path: Path, backend: str) -> None:
    path = hold_last(write_video(tmp_path / "v.mp4", frames=50, options={"bf": "0"}), tmp_path / "held.mp4", seconds=20)
    _, end = decode(path, backend=backend)
    assert (end.info.duration_seconds, len(end.segments), end.warnings) == (pytest.approx(21.96), 7, ("W_GAP",))


def test_a_cut_recording_is_indexed_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=250)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.65)])
    _, end = decode(path)
    assert "W_TRUNCATED" in end.warnings
    assert 5.5 < end.info.duration_seconds < 7.5
    assert end.segments[-1].end_seconds <= end.info.duration_seconds + 0.001
    with pytest.raises(
        VideoError, match=r"ends after \d+% of the 10\.0 s that it claims; decode\.min_coverage asks for 90%"
    ) as caught:
        decode(path, min_coverage=0.9)
    assert caught.value.code == "E_TRUNCATED"


ODD_NAMES = (
    *("a:b.mp4", "-dash.mp4", "pct%03d.mp4", " leading.mp4"),
    *("new\nline.mp4", "naïve 動画.mp4", "file:x.mp4", "http:y.mp4"),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_just_names(tmp_path: Path, name: str) -> None:
    clips, _ = decode(write_video(tmp_path / "plain.mp4", frames=25).rename(tmp_path / name))
    assert len(clips) == 1


def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", frames=25)
    raw = os.fsencode(tmp_path) + b"/bad\xff.mp4"
    os.rename(path, raw)  # noqa: PTH104  a Path cannot hold these bytes
    items = list(decode_unit(Unit((Video(f"{tmp_path}/bad%FF.mp4", stat_fingerprint(os.fsdecode(raw)), 1, 0.0),)), settings()))
    assert isinstance(items[-1], VideoEnd)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E_EMPTY"),
        (b"\0", "E_NOT_MEDIA"),
        (b"my holidays", "E_NOT_MEDIA"),
        (b"<html><body>AccessDenied</body></html>", "E_NOT_MEDIA"),
        (b"PK\x03\x04" + bytes(100), "E_NOT_MEDIA"),
        (bytes(range(256)) * 400, "E_NOT_MEDIA"),
        (b"#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:9/x.ts\n", "E_FORMAT_REFUSED"),
        (b"ffconcat version 1.0\nfile secret.mp4\n", "E_FORMAT_REFUSED"),
        (b'<?xml version="1.0"?><MPD></MPD>', "E_FORMAT_REFUSED"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "E_FORMAT_REFUSED"),
        (b"[InternetShortcut]\nURL=http://127.0.0.1:9/x\n", "E_FORMAT_REFUSED"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "still_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "still_image"),
        (b"ID3\x03" + bytes(50), "no_video"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises((VideoError, VideoSkip)) as caught:
        decode(path)
    assert getattr(caught.value, "code", getattr(caught.value, "reason", None)) == code


def test_encrypted_video_is_not_indexed_as_noise(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=50)
    data = path.read_bytes()
    # What makes it encrypted to a reader: the sample entry is called encv, and tells the original name in its sinf box.
    media = data.find(b"mdat") + 4
    path.write_bytes(
        data[: media + 2000].replace(b"avc1", b"encv") + bytes(1500) + data[media + 3500 :].replace(b"avc1", b"encv")
    )
    with pytest.raises(VideoError) as caught:
        decode(path)
    assert caught.value.code in ("E_ENCRYPTED", "E_CORRUPT")


def test_a_file_that_changes_while_it_is_read_has_one_last_word(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=100)
    other = write_video(tmp_path / "w.mp4", frames=25)
    words: list[object] = []
    for item in decode_unit(Unit((listed(path), listed(other))), settings()):
        if isinstance(item, ClipPack):
            os.utime(path, (1, 1))
        else:
            words.append(item)
    first, second = words
    assert isinstance(first, Failure)
    assert (first.code, first.video.uri) == ("E_CHANGED", str(path))
    assert isinstance(second, VideoEnd)


def test_a_file_that_is_gone_is_skipped(tmp_path: Path) -> None:
    words = list(decode_unit(Unit((Video(str(tmp_path / "none.mp4"), "1-1", 1, 0.0),)), settings()))
    assert [(word.reason) for word in words if isinstance(word, Skipped)] == ["gone"]


def test_a_disk_that_fails_is_no_damage_of_the_file(tmp_path: Path) -> None:
    video = listed(write_video(tmp_path / "tapes" / "v.mp4"))
    (tmp_path / "tapes").rename(tmp_path / "away")
    (tmp_path / "tapes").symlink_to("tapes")  # a link to itself: the system can say no more than that it cannot look
    (word,) = decode_unit(Unit((video,)), settings())
    assert isinstance(word, Failure)
    assert (word.code, word.message) == ("E_SOURCE", "could not be read: Too many levels of symbolic links")


def test_a_disk_that_fails_at_some_place_of_a_file_is_no_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=1250)
    os.truncate(path, path.stat().st_size // 2)
    words: list[object] = []
    for item in decode_unit(Unit((listed(path),)), settings(min_coverage=0.9)):
        if not words:  # FFmpeg has it open; whoever looks at it again cannot
            path.rename(tmp_path / "away")
            path.symlink_to(path)
        words.append(item)
    assert isinstance(words[-1], Failure)
    assert (words[-1].code, words[-1].message) == ("E_SOURCE", "could not be read: Too many levels of symbolic links")
    with pytest.raises(SourceFault, match="could not be read: Input/output error"):
        LocalFile("/proc/self/mem").check()  # its first page is not there


def test_every_failure_code_has_a_meaning_and_a_cure() -> None:
    assert len(VIDEO_ERRORS) >= 15
    for code, error in VIDEO_ERRORS.items():
        assert code.startswith("E_")
        assert (error.__doc__ or "").strip().endswith((".", "`"))
        assert error.cure.endswith(".")


def test_pictures_are_upright_and_in_colour(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=5)
    pack = next(iter(decode_video(listed(path), str(path), settings())))
    assert isinstance(pack, ClipPack)
    shown = pack.frames[0, 0].astype(int)
    drawn = np.asarray(pattern(0, width=171, height=128))[8:120, 5:165].astype(int)
    assert np.abs(shown - drawn).mean() < 6
