"""Decoding what lies in S3: the same clips as from a disk, from a part of the bytes, of one version of the object."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from indexer.decode.unit import decode_unit
from indexer.decode.video import DecodeSettings
from indexer.errors import CredentialsError
from indexer.records import ClipGeometry, ClipPack, Failure, Split, Unit, Video, VideoEnd
from indexer.storage.scan import stat_fingerprint
from tests.s3 import S3Place, Status
from tests.videos import write_video

SETTINGS = DecodeSettings(
    geometry=ClipGeometry(frames=4, fps=5.0, resize=(60,), crop=(56, 56)),
    segment_seconds=20.0,
    clips=1,
    placement="uniform",
    backend="auto",
    max_pixels=36_000_000,
    min_coverage=0.5,
    range_seconds=600.0,
)


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes at about 5 Mbit/s, with a key frame every second."""
    grain = np.random.default_rng(5).integers(0, 256, (36, 180, 320, 3), dtype=np.uint8)
    return write_video(
        tmp_path_factory.mktemp("long") / f"a.{request.param}",
        frames=600,
        fps=5,
        width=320,
        height=180,
        gop=5,
        codec="mpeg4",
        picture=lambda number: grain[number % 36],
        options={"b": "3000000"},
    )


def put(place: S3Place, key: str, content: bytes) -> Video:
    place.put(key, content)
    return Video(f"{place.uri}/{key}", f"{len(content)}-{hashlib.md5(content).hexdigest()}", len(content), 0.0)


def decoded(video: Video) -> tuple[list[np.ndarray], VideoEnd]:
    *packs, end = decode_unit(Unit((video,)), SETTINGS)
    assert isinstance(end, VideoEnd), end
    return [pack.frames for pack in packs if isinstance(pack, ClipPack)], end


def test_clips_are_those_of_the_file_on_a_disk(s3: S3Place, recording: Path) -> None:
    content = recording.read_bytes()
    assert len(content) > 17 << 20
    packs, end = decoded(put(s3, recording.name, content))
    from_disk = Video(str(recording), stat_fingerprint(str(recording)), len(content), 0.0)
    expected, expected_end = decoded(from_disk)
    assert all(np.array_equal(*pair) for pair in zip(packs, expected, strict=True))
    assert (end.info, end.segments, end.warnings) == (expected_end.info, expected_end.segments, expected_end.warnings)
    if recording.suffix != ".ts":
        assert s3.proxy.body_bytes < 0.3 * len(content)


def test_an_object_that_was_replaced_since_the_listing_is_indexed_as_it_is_now(s3: S3Place, recording: Path) -> None:
    listed = put(s3, recording.name, b"old")
    now = put(s3, recording.name, recording.read_bytes())
    _, end = decoded(listed)
    assert (end.video.uri, end.video.fingerprint) == (now.uri, now.fingerprint)


def test_credentials_that_end_while_a_video_is_decoded_stop_the_run(s3: S3Place, recording: Path) -> None:
    video = put(s3, recording.name, recording.read_bytes())
    s3.proxy.plan = lambda request: Status(400, "ExpiredToken") if request.number > 6 else None
    with pytest.raises(CredentialsError):
        list(decode_unit(Unit((video,)), SETTINGS))


def test_an_object_that_is_replaced_while_it_is_decoded_is_done_once_more(s3: S3Place, recording: Path) -> None:
    video = put(s3, recording.name, recording.read_bytes())
    contents = iter([b"new", recording.read_bytes(), b"newer"])

    def plan(request: object) -> None:
        if len(s3.proxy.requests) == 6:
            put(s3, recording.name, next(contents))

    s3.proxy.plan = plan
    *_, last = decode_unit(Unit((video,)), SETTINGS)
    assert isinstance(last, Split)
    assert (last.video.fingerprint, last.ranges) == ("3-22af645d1859cb5ca6da0c484f1f37ea", ())
    video = put(s3, recording.name, next(contents))
    s3.proxy.requests.clear()
    *_, last = decode_unit(Unit((video,), may_split=False), SETTINGS)
    assert isinstance(last, Failure)
    assert last.code == "E_CHANGED"
