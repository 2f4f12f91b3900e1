"""Bytes of objects, through networks and storages that have their faults: the right ones, or an error that says why."""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from indexer.errors import (
    AccessDenied,
    Archived,
    Changed,
    ConfigError,
    CredentialsError,
    IndexerError,
    ScratchFull,
    SourceError,
    SourceFault,
    VideoSkip,
)
from indexer.records import Video
from indexer.storage.fetch import local_file, video_file, video_files
from indexer.storage.s3.blocks import BLOCK_BYTES, Blocks
from indexer.storage.s3.client import S3, Patience
from indexer.storage.s3.objects import fetch_range, version_of
from indexer.storage.s3.video import s3_video_file, video_fault
from indexer.storage.scratch import scratch_file
from tests.s3 import Answer, Cut, Edit, Fault, Plan, Request, Reset, S3Place, Slow, Status
from tests.videos import write_video

MB = 1 << 20
SMALL, LARGE = 200_000, 17 * MB
"""Copied whole; read by blocks."""


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def put(place: S3Place, key: str, content: bytes) -> Video:
    """The new object as a list would describe it."""
    place.put(key, content)
    return Video(f"{place.uri}/{key}", f"{len(content)}-{hashlib.md5(content).hexdigest()}", len(content), 0.0)


def read_all(video: Video, connection: S3) -> bytes:
    with s3_video_file(connection, video) as (_, file), file.open() as stream:
        return stream.read()


def once(fault: Fault, *, at: int = 1) -> Plan:
    """A fault of the request for content with this number."""
    seen = []

    def plan(request: Request) -> Fault | None:
        if request.is_body:
            seen.append(request)
        return fault if request.is_body and len(seen) == at else None

    return plan


def bodies(fault: Fault) -> Plan:
    """A fault of every request for content."""
    return lambda request: fault if request.is_body else None


def flip(answer: Answer) -> None:
    answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]


# Whole objects


def test_a_small_object_is_copied_in_one_request_and_the_copy_goes_away(s3: S3Place, tmp_path: Path) -> None:
    content = noise(SMALL)
    video = put(s3, "a.mp4", content)
    with video_file(video) as (now, file):
        assert file.path is not None
        assert Path(file.path).parent.parent == tmp_path
        assert Path(file.path).read_bytes() == content
        assert (now, file.whole(), file.bytes_fetched) == (video, file.path, SMALL)
    assert not Path(file.path).exists()
    assert [(request.method, request.key) for request in s3.proxy.requests] == [("GET", "a.mp4")]


def test_a_large_object_is_copied_in_ranges_where_a_path_is_needed(s3: S3Place) -> None:
    content = noise(LARGE + 5)
    with local_file(put(s3, "a.mp4", content)) as path:
        assert Path(path).read_bytes() == content
    wanted = [request.headers["range"] for request in s3.proxy.requests]
    assert set(wanted) == {"bytes=0-262143", "bytes=0-8388607", "bytes=8388608-16777215", "bytes=16777216-17825796"}
    assert all(request.headers["if-match"] for request in s3.proxy.requests)


def test_an_empty_object_is_an_empty_file(s3: S3Place) -> None:
    with local_file(put(s3, "a.mp4", b"")) as path:
        assert Path(path).read_bytes() == b""


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_copy_that_is_damaged_on_its_way_is_fetched_again(s3: S3Place, size: int) -> None:
    content = noise(size)
    video = put(s3, "a.mp4", content)
    s3.proxy.plan = once(Edit(flip), at=1 if size == SMALL else 2)
    with local_file(video) as path:
        assert Path(path).read_bytes() == content


def put_in_parts(place: S3Place, content: bytes, ends: list[int]) -> Video:
    """An object in parts that end at these bytes, as a list would describe it."""
    name = {"Bucket": place.bucket, "Key": "a.mp4"}
    upload = {**name, "UploadId": place.client.create_multipart_upload(**name)["UploadId"]}
    parts = []
    for number, (start, end) in enumerate(itertools.pairwise([0, *ends]), start=1):
        part = place.client.upload_part(**upload, PartNumber=number, Body=content[start:end])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    etag = place.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ETag"].strip('"')
    return Video(f"{place.uri}/a.mp4", f"{len(content)}-{etag}", len(content), 0.0)


def says(**headers: str) -> Callable[[Answer], None]:
    """Change what the storage says of the whole object."""

    def edit(answer: Answer) -> None:
        if answer.status == 200:
            answer.headers = {name: value for name, value in answer.headers.items() if not name.startswith("x-amz-checksum")}
            answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return edit


def damaged_once(says: Callable[[Answer], None], *, at: int) -> Plan:
    """The body with this number is damaged; the storage says what `says` adds, of the whole object."""
    spoil = once(Edit(flip), at=at)

    def plan(request: Request) -> Fault | None:
        if fault := spoil(request):
            return fault
        return None if request.query.get("partNumber") else Edit(says)

    return plan


CONTENT = noise(12 * MB)
KMS = {"x_amz_server_side_encryption": "aws:kms"}
SAID: dict[str, dict[str, str]] = {
    "MD5 of parts": {},
    "CRC-64/NVME": {"x_amz_checksum_crc64nvme": "NkzZomqDHR8="},
    "CRC-32C": {"x_amz_checksum_crc32c": "+7OD2Q=="},
    "CRC-32C of parts": KMS | {"x_amz_checksum_crc32c": "Lxn+/g==-3"},
    "SHA-256 of parts": KMS | {"x_amz_checksum_sha256": "Idboi7TAPzp5fnCFvEiGfc6mN4UBBLbZ5lqrRAqBLl4=-3"},
}
"""What is said of an object of CONTENT in parts of 5 MB."""


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_an_object_that_came_in_parts_is_verified(s3: S3Place, said: dict[str, str]) -> None:
    video = put_in_parts(s3, CONTENT, [5 * MB, 10 * MB, 12 * MB])
    s3.proxy.plan = damaged_once(says(**said), at=2)
    assert read_all(video, s3.hasty) == CONTENT
    assert len([request for request in s3.proxy.requests if request.is_body]) == 4  # two ranges, twice


@pytest.mark.parametrize("said", [{}, {"x_amz_checksum_crc32c": "AAAAAA==-3"}], ids=["MD5", "CRC-32C"])
def test_parts_of_different_length_do_no_harm(s3: S3Place, said: dict[str, str]) -> None:
    video = put_in_parts(s3, CONTENT, [6 * MB, 11 * MB, 12 * MB])
    s3.proxy.plan = lambda request: None if request.query.get("partNumber") else Edit(says(**said))
    assert read_all(video, s3.hasty) == CONTENT


def test_an_etag_of_another_kind_of_storage_does_no_harm(s3: S3Place) -> None:
    put_in_parts(s3, CONTENT, [5 * MB, 10 * MB, 12 * MB])

    def other_etag(answer: Answer) -> None:
        answer.headers["ETag"] = '"its-own-3"'

    def plan(request: Request) -> Fault | None:
        request.headers.pop("if-match", None)
        return Edit(other_etag)

    s3.proxy.plan = plan
    assert read_all(Video(f"{s3.uri}/a.mp4", f"{12 * MB}-its-own-3", 12 * MB, 0.0), s3.hasty) == CONTENT


@pytest.mark.parametrize("said", [{"x_amz_checksum_crc64nvme": "1sfSbUj9BaM="}, {"x_amz_checksum_crc32c": "2GOTrA=="}])
def test_a_small_copy_is_verified_by_what_newer_tools_upload(s3: S3Place, said: dict[str, str]) -> None:
    content = noise(SMALL)
    video = put(s3, "a.mp4", content)
    s3.proxy.plan = damaged_once(says(**KMS, **said), at=1)
    assert read_all(video, s3.hasty) == content


def test_a_copy_that_never_agrees_with_its_checksum_is_refused(s3: S3Place) -> None:
    video = put(s3, "a.mp4", noise(SMALL))
    s3.proxy.plan = bodies(Edit(flip))
    with pytest.raises(SourceFault, match="do not agree with their checksum"):
        read_all(video, s3.hasty)


def test_an_etag_that_only_looks_like_a_checksum_does_no_harm(s3: S3Place) -> None:
    content = noise(SMALL)
    put(s3, "a.mp4", content)

    def other_etag(answer: Answer) -> None:
        answer.headers = {name: value for name, value in answer.headers.items() if not name.startswith("x-amz-checksum")}
        answer.headers["ETag"] = '"' + "f" * 32 + '"'

    def plan(request: Request) -> Fault | None:
        request.headers.pop("if-match")
        return Edit(other_etag)

    s3.proxy.plan = plan
    assert read_all(Video(f"{s3.uri}/a.mp4", f"{SMALL}-{'f' * 32}", SMALL, 0.0), s3.hasty) == content


def test_many_small_objects_survive_a_bad_network(s3: S3Place) -> None:
    contents = [noise(200 + number * 97, number) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        videos = list(pool.map(lambda number: put(s3, f"{number}.mp4", contents[number]), range(200)))
    faults: list[Fault] = [
        Status(503, "SlowDown"),
        Status(500, "InternalError"),
        Reset(),
        Cut(),
        Cut(0.0),
        Cut(reset=True),
        Edit(flip),
    ]
    tries: Counter[str] = Counter()

    def plan(request: Request) -> Fault | None:
        tries[request.key] += 1
        dice = random.Random(f"{request.key} {tries[request.key]}")  # the same, whichever thread comes first
        return dice.choice(faults) if dice.random() < 0.3 else None

    s3.proxy.plan = plan
    connection = S3(patience=Patience(longest_pause_seconds=0.2))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda video: read_all(video, connection), videos)) == contents


# Blocks


def read_randomly(blocks: Blocks, content: bytes, reads: int, seed: int = 3) -> None:
    dice = random.Random(seed)
    with blocks.open() as stream:
        for _ in range(reads):
            start, size = dice.randrange(len(content)), dice.randrange(1, 3 * BLOCK_BYTES)
            stream.seek(start)
            assert stream.read(size) == content[start : start + size]


def test_blocks_can_be_read_in_any_order(s3: S3Place) -> None:
    content = noise(6 * MB + 123)
    with Blocks(s3.hasty, version_of(put(s3, "a.mp4", content)), explain=video_fault) as blocks:
        read_randomly(blocks, content, 40)
        assert blocks.bytes_fetched == len(content)  # each once


def test_only_the_blocks_that_are_read_are_fetched(s3: S3Place) -> None:
    content = noise(40 * MB)
    with Blocks(s3.hasty, version_of(put(s3, "a.mp4", content)), explain=video_fault) as blocks:
        with blocks.open() as stream:
            for start in (0, 39 * MB + 7, 20 * MB + 600_000):
                stream.seek(start)
                assert stream.read(100) == content[start : start + 100]
        with blocks.open() as again:
            assert again.read(100) == content[:100]
        assert blocks.bytes_fetched == 3 * BLOCK_BYTES


def test_reading_on_fetches_ahead_and_each_block_once(s3: S3Place) -> None:
    content = noise(12 * MB)
    with Blocks(s3.hasty, version_of(put(s3, "a.mp4", content)), explain=video_fault) as blocks:
        with blocks.open() as stream:
            for place in range(16):
                assert stream.read(BLOCK_BYTES) == content[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
        wait_for(lambda: blocks.bytes_fetched >= 22 * BLOCK_BYTES)
    wanted = [tuple(map(int, request.headers["range"].removeprefix("bytes=").split("-"))) for request in s3.proxy.requests]
    assert sum(last + 1 - first for first, last in wanted) == len(
        {n for first, last in wanted for n in range(first, last + 1)}
    )
    assert max(last for _, last in wanted) < 24.5 * BLOCK_BYTES  # half of what was read
    assert len(wanted) <= 12


def test_what_is_expected_is_fetched_ahead_and_nothing_else(s3: S3Place) -> None:
    content = noise(20 * MB)
    with Blocks(s3.hasty, version_of(put(s3, "a.mp4", content)), explain=video_fault) as blocks, blocks.open() as stream:
        blocks.expect([(2 * MB, 4 * MB), (3 * MB, 4 * MB + 1), (9 * MB - 1, 9 * MB + 1), (19 * MB, sys.maxsize)])
        stream.read(100)
        stream.seek(3 * MB)
        assert stream.read(10) == content[3 * MB : 3 * MB + 10]
        wait_for(lambda: blocks.bytes_fetched == (1 + 5 + 2 + 4) * BLOCK_BYTES)
        for start, stop in ((3 * MB, 4 * MB + 1), (9 * MB - 1, 9 * MB + 1), (19 * MB, 20 * MB)):
            stream.seek(start)
            assert stream.read(stop - start) == content[start:stop]
        stream.seek(2 * MB)
        stream.read(MB)
        assert blocks.bytes_fetched == (1 + 9 + 2 + 4) * BLOCK_BYTES


def test_blocks_beyond_those_that_are_kept_are_fetched_again(s3: S3Place) -> None:
    content = noise(20 * MB)
    version = version_of(put(s3, "a.mp4", content))
    with Blocks(s3.hasty, version, explain=video_fault, blocks_kept=64) as blocks, blocks.open() as stream:
        assert stream.read() == content
        assert blocks.bytes_fetched == len(content)
        stream.seek(0)
        assert stream.read(10) == content[:10]
        assert blocks.bytes_fetched == len(content) + BLOCK_BYTES


def test_a_seek_before_the_first_byte_is_refused_and_the_end_is_the_end(s3: S3Place) -> None:
    with Blocks(s3.hasty, version_of(put(s3, "a.mp4", b"0123456789")), explain=video_fault) as blocks, blocks.open() as stream:
        assert stream.seek(-3, 2) == 7
        assert stream.read() == b"789"
        assert stream.read() == b""
        assert stream.seek(100) == 100
        assert stream.read(5) == b""
        with pytest.raises(OSError, match="before the first byte"):
            stream.seek(-1)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A minute at about 5 Mbit/s, with a key frame every second."""
    grain = np.random.default_rng(5).integers(0, 256, (36, 180, 320, 3), dtype=np.uint8)
    return write_video(
        tmp_path_factory.mktemp("long") / "a.mp4",
        frames=600,
        fps=10,
        width=320,
        height=180,
        gop=10,
        codec="mpeg4",
        picture=lambda number: grain[number % 36],
        options={"b": "5000000"},
    ).read_bytes()


def test_a_decoder_that_samples_fetches_a_part_and_sees_the_same(s3: S3Place, long_recording: bytes, tmp_path: Path) -> None:
    assert len(long_recording) > 30 * MB
    video = put(s3, "a.mp4", long_recording)
    (tmp_path / "a.mp4").write_bytes(long_recording)

    def sample(source: object) -> list[bytes]:
        pictures = []
        with av.open(source) as container:  # type: ignore[call-overload]
            stream = container.streams.video[0]
            for second in (5, 25, 45):
                container.seek(int(second / stream.time_base), stream=stream)
                pictures.append(next(container.decode(stream)).to_ndarray().tobytes())
        return pictures

    with video_file(video) as (_, file), file.open() as stream:
        assert file.path is None
        assert sample(stream) == sample(str(tmp_path / "a.mp4"))
        assert file.bytes_fetched <= 8 * MB
    assert not list(tmp_path.glob("indexer-scratch-*/copy-*"))


# What networks do


@pytest.mark.parametrize(
    ("fault", "then"),
    [
        (Cut(0.7), "bytes=140000-199999"),
        (Cut(0.0), None),
        (Slow(1024, 0.02), "bytes="),
        (Reset(), None),
        (Status(503, "SlowDown"), None),
        (Status(500, "InternalError"), None),
        (Status(400, "RequestTimeout"), None),
    ],
)
def test_what_breaks_off_is_asked_for_from_where_it_stopped(s3: S3Place, fault: Fault, then: str | None) -> None:
    content = noise(SMALL)
    video = put(s3, "a.mp4", content)
    s3.proxy.plan = once(fault)
    connection = S3(patience=Patience(give_up_seconds=20, window_seconds=0.2, least_bytes_per_second=100_000))
    assert read_all(video, connection) == content
    assert len(s3.proxy.requests) == 2
    again = s3.proxy.requests[1].headers.get("range")
    assert again == then if then != "bytes=" else again is not None
    assert s3.proxy.body_bytes < 1.05 * SMALL


def shorter(answer: Answer) -> None:
    answer.body = answer.body[:1000]


@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), Reset(), Cut(0.0), Slow(100, 0.02), Edit(shorter)])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_never_comes_is_given_up_and_the_storage_is_blamed(s3: S3Place, fault: Fault, size: int) -> None:
    video = put(s3, "a.mp4", noise(size))
    s3.proxy.plan = bodies(fault)
    with pytest.raises(SourceFault, match="could not be fetched: ") as caught:
        read_all(video, s3.hasty)
    assert (caught.value.code, caught.value.retry) == ("E_SOURCE", True)


def test_a_network_that_is_slow_but_works_loses_nothing(s3: S3Place) -> None:
    content = noise(300_000)
    version = version_of(put(s3, "a.mp4", content))
    s3.proxy.plan = bodies(Slow(8192, 0.02))
    got = bytearray()
    patience = Patience(give_up_seconds=1.0, window_seconds=0.1, least_bytes_per_second=1_000_000, longest_pause_seconds=0.01)
    fetch_range(S3(patience=patience), version, 0, len(content), lambda _, chunk: got.extend(chunk))
    assert bytes(got) == content
    assert len(s3.proxy.requests) > 2


def test_a_fetch_that_nobody_waits_for_any_more_ends(s3: S3Place) -> None:
    version = version_of(put(s3, "a.mp4", noise(SMALL)))
    s3.proxy.plan = bodies(Status(503, "SlowDown"))
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fetch_range, S3(), version, 0, SMALL, lambda *_: None, cancelled=cancelled)
        cancelled.set()
        assert "SlowDown" in str(fetching.exception(timeout=10))


# What happens to objects


def after(number: int, act: Callable[[], object]) -> Plan:
    """Something happens to the bucket just before this request is answered."""

    def plan(request: Request) -> None:
        if request.number == number:
            act()

    return plan


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_object_that_was_replaced_since_the_listing_is_read_as_it_is_now(s3: S3Place, size: int) -> None:
    listed = put(s3, "a.mp4", noise(size, 1))
    content = noise(size + 7, 2)
    now = put(s3, "a.mp4", content)
    with video_file(listed) as (found, file), file.open() as stream:
        assert stream.read() == content
    assert (found.uri, found.fingerprint, found.size_bytes) == (now.uri, now.fingerprint, size + 7)
    with pytest.raises(Changed, match="was replaced after it was listed"), local_file(listed):
        pass


def test_an_object_that_is_replaced_while_it_is_copied_is_copied_anew(s3: S3Place) -> None:
    listed = put(s3, "a.mp4", noise(SMALL, 1))
    content = noise(SMALL, 2)

    def plan(request: Request) -> Fault | None:
        if request.number == 2:
            put(s3, "a.mp4", content)
        return Cut(0.5) if request.number == 1 else None

    s3.proxy.plan = plan
    assert read_all(listed, s3.hasty) == content


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(s3: S3Place) -> None:
    listed = put(s3, "a.mp4", noise(LARGE, 1))

    def read() -> None:
        with s3_video_file(s3.hasty, listed) as (_, file), file.open() as stream:
            assert stream.read(10) == noise(LARGE, 1)[:10]
            put(s3, "a.mp4", noise(LARGE, 2))
            stream.seek(10 * MB)
            stream.read(10)

    with pytest.raises(Changed, match="was replaced while it was read"):
        read()


def test_an_object_that_is_replaced_all_the_time_waits_for_a_later_run(s3: S3Place) -> None:
    listed = put(s3, "a.mp4", noise(SMALL))
    counter = iter(range(1, 1000))

    def plan(request: Request) -> None:
        if request.is_body:
            put(s3, "a.mp4", noise(SMALL, next(counter)))

    s3.proxy.plan = plan
    with pytest.raises(Changed, match="is replaced again and again"):
        read_all(listed, s3.hasty)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_object_that_was_deleted_is_gone(s3: S3Place, size: int) -> None:
    video = put(s3, "a.mp4", noise(size))
    s3.proxy.plan = after(1, lambda: s3.delete("a.mp4"))
    with pytest.raises(VideoSkip) as caught:
        read_all(video, s3.hasty)
    assert caught.value.reason == "gone"


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (Status(403, "AccessDenied"), AccessDenied, r"may not be read with these credentials: planned AccessDenied"),
        (Status(403, "InvalidObjectState"), Archived, "lies in cold storage"),
        (Status(404, "NoSuchBucket"), SourceError, "The bucket of the source is no longer there"),
        (Status(400, "ExpiredToken"), CredentialsError, r"S3 does not accept the credentials: planned ExpiredToken"),
        (Status(403, "ExpiredToken"), CredentialsError, "and run the same command again: finished videos are kept"),
        (Status(403, "InvalidAccessKeyId"), CredentialsError, "InvalidAccessKeyId"),
        (Status(403, "SignatureDoesNotMatch"), CredentialsError, "SignatureDoesNotMatch"),
        (Status(403, "RequestTimeTooSkewed"), CredentialsError, "RequestTimeTooSkewed"),
        (Status(400, "InvalidArgument"), SourceFault, r"could not be fetched: planned InvalidArgument \(InvalidArgument\)"),
    ],
)
def test_a_refusal_says_whose_fault_it_is(s3: S3Place, fault: Fault, error: type[IndexerError], sentence: str) -> None:
    videos = [put(s3, f"{number}.mp4", noise(SMALL)) for number in range(2)]
    s3.proxy.plan = lambda request: fault if request.key == "0.mp4" else None
    with pytest.raises(error, match=sentence):
        read_all(videos[0], s3.hasty)
    assert read_all(videos[1], s3.hasty) == noise(SMALL)


@pytest.mark.parametrize(
    ("fault", "error"), [(Status(400, "ExpiredToken"), CredentialsError), (Status(503, "SlowDown"), SourceFault)]
)
def test_a_decoder_that_swallows_a_fault_does_not_hide_it(s3: S3Place, fault: Fault, error: type[IndexerError]) -> None:
    video = put(s3, "a.mp4", noise(LARGE))

    def decode() -> None:
        with s3_video_file(s3.hasty, video) as (_, file), file.open() as stream:
            s3.proxy.plan = bodies(fault)
            stream.seek(9 * MB)
            try:
                stream.read(10)
            except IndexerError:
                raise EOFError("the decoder takes it for the end of the file") from None

    with pytest.raises(error):
        decode()


# Reading ahead


def test_the_next_object_is_fetched_while_one_is_read(s3: S3Place, tmp_path: Path) -> None:
    videos = [put(s3, f"{number}.mp4", noise(SMALL, number)) for number in range(3)]
    for number, (video, opening) in enumerate(video_files(videos)):
        assert video == videos[number]
        with opening as (_, file):
            assert Path(file.whole()).read_bytes() == noise(SMALL, number)
            if number == 0:
                wait_for(lambda: len(list(tmp_path.glob("indexer-scratch-*/copy-*"))) == 2)
    assert [request.key for request in s3.proxy.requests] == ["0.mp4", "1.mp4", "2.mp4"]


def wait_for(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(1000):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("it did not happen in 10 s")


def test_one_fault_while_reading_ahead_costs_one_video(s3: S3Place, tmp_path: Path) -> None:
    videos = [put(s3, f"{number}.mp4", noise(SMALL, number)) for number in range(4)]
    s3.delete("1.mp4")
    words = []
    for video, opening in video_files(videos):
        try:
            with opening as (_, file):
                words.append(Path(file.whole()).read_bytes() == noise(SMALL, int(video.uri[-5])))
        except VideoSkip as skip:
            words.append(skip.reason)
    assert words == [True, "gone", True, True]
    assert not list(tmp_path.glob("indexer-scratch-*/copy-*"))


def test_what_was_fetched_ahead_and_never_used_goes_away(s3: S3Place, tmp_path: Path) -> None:
    videos = [put(s3, f"{number}.mp4", noise(SMALL, number)) for number in range(3)]
    opened = video_files(videos)
    _, opening = next(opened)
    with opening:
        wait_for(lambda: len(list(tmp_path.glob("indexer-scratch-*/copy-*"))) == 2)
    opened.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.glob("indexer-scratch-*/copy-*"))


def test_reading_ahead_never_takes_the_room_of_the_video_at_work(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEXER_SCRATCH_LIMIT", "1M")
    videos = [put(s3, f"{number}.mp4", noise(700_000, number)) for number in range(3)]
    for number, (_, opening) in enumerate(video_files(videos)):
        with opening as (_, file):
            assert Path(file.whole()).read_bytes() == noise(700_000, number)


# Scratch


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INDEXER_SCRATCH", str(tmp_path))
    monkeypatch.setenv("INDEXER_SCRATCH_LIMIT", "10M")
    return tmp_path


def test_scratch_is_bounded_over_all_processes(scratch: Path) -> None:
    program = (
        "import sys; from indexer.storage.scratch import scratch_file\n"
        "with scratch_file(6_000_000): print('taken', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "taken\n"
        with scratch_file(4_000_000):
            pass
        with (
            pytest.raises(ScratchFull, match=r"needs 4,000,001 bytes .* which other videos have taken"),
            scratch_file(4_000_001, wait_seconds=0.3),
        ):
            pass
        other.stdin.close()
        with scratch_file(4_000_001, wait_seconds=10):  # as soon as the other one is done
            pass


def test_what_a_killed_process_left_is_swept(scratch: Path) -> None:
    program = (
        "import os, signal; from indexer.storage.scratch import scratch_file\n"
        "with scratch_file(6_000_000): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert len(list(scratch.glob("*/copy-*"))) == 1
    with scratch_file(9_000_000, wait_seconds=0):
        assert len(list(scratch.glob("*/copy-*"))) == 1
    assert list(scratch.glob("*/copy-*")) == []


def test_a_copy_that_can_never_fit_is_refused_at_once(scratch: Path) -> None:
    with pytest.raises(ScratchFull, match=r"needs 10,000,001 bytes of scratch space in .*, where 10,000,000 may be used"):
        scratch_file(10_000_001).__enter__()


def test_nothing_else_in_the_scratch_folder_is_touched(scratch: Path) -> None:
    (scratch / "copy-mine").write_text("mine")
    with scratch_file(5) as path:
        (path.parent / "readme").write_text("mine")
    with scratch_file(5):
        pass
    assert (scratch / "copy-mine").exists()
    assert (path.parent / "readme").exists()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("INDEXER_SCRATCH", "/proc/nowhere", "INDEXER_SCRATCH: /proc/nowhere/.* cannot be made"),
        ("INDEXER_SCRATCH_LIMIT", "20", 'INDEXER_SCRATCH_LIMIT: "20" has no unit; write for example 20M'),
    ],
)
def test_wrong_settings_of_scratch_are_said_so(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=sentence):
        scratch_file(1).__enter__()


def test_a_scratch_folder_that_leads_elsewhere_is_refused(scratch: Path) -> None:
    with scratch_file(1) as path:
        folder = path.parent
    folder.rename(scratch / "moved")
    folder.symlink_to("moved")
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        scratch_file(1).__enter__()
