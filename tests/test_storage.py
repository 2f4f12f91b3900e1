"""The output side: one contract for a folder and a bucket, and what S3 alone can do to it."""

from __future__ import annotations

import io
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.errors import ConfigError, CredentialsError, OutputError
from indexer.storage import Storage, StoredFile, open_storage
from indexer.storage.address import parse_s3
from indexer.storage.s3.client import S3
from indexer.storage.s3.output import SPOOL_BYTES, S3Storage
from tests.s3 import Answer, Cut, Edit, Fault, Request, Reset, S3Place, Status


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(str(tmp_path / "index"))
    place: S3Place = request.getfixturevalue("s3")
    return open_storage(f"{place.uri}/index")


def write(storage: Storage, name: str, content: bytes) -> None:
    with storage.create(name) as file:
        file.write(content)


def read(storage: Storage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.read()


# The contract


def test_a_file_appears_whole_or_not_at_all(storage: Storage) -> None:
    with pytest.raises(ZeroDivisionError), storage.create("parts/a.bin") as file:
        file.write(b"half" * (1 // 0))
    assert list(storage.list_files("")) == []
    with storage.create("parts/a.bin") as file:
        file.write(b"who")
        assert "parts/a.bin" not in [stored.name for stored in storage.list_files("")]
        file.write(b"le")
    assert read(storage, "parts/a.bin") == b"whole"


def test_a_file_is_replaced_where_that_is_meant(storage: Storage) -> None:
    for content in (b"first", b"second"):
        storage.replace("reports/latest.html", content)
        assert read(storage, "reports/latest.html") == content
    assert [file.name for file in storage.list_files("")] == ["reports/latest.html"]


def test_a_file_is_never_replaced(storage: Storage) -> None:
    write(storage, "a.bin", b"first")
    with pytest.raises(OutputError, match=r"index/a.bin: .* Files of the output are never replaced"):
        write(storage, "a.bin", b"second")
    assert read(storage, "a.bin") == b"first"
    assert [file.name for file in storage.list_files("")] == ["a.bin"]


def test_a_file_can_be_read_from_anywhere_in_it(storage: Storage) -> None:
    content = bytes(range(256)) * 20_000
    write(storage, "a.bin", content)
    with storage.open("a.bin") as file:
        assert file.seek(-5, io.SEEK_END) == len(content) - 5
        assert file.read() == content[-5:]
        assert file.seek(1_500_000) == 1_500_000
        assert file.read(1_000_000) == content[1_500_000:2_500_000]
        assert file.tell() == 2_500_000


def test_files_are_listed_by_prefix_in_the_order_of_their_names(storage: Storage) -> None:
    for name in ("parts/part-2.parquet", "parts/part-10.parquet", "other.txt", "parts.txt"):
        write(storage, name, name.encode())
    assert [file.name for file in storage.list_files("parts/part-")] == ["parts/part-10.parquet", "parts/part-2.parquet"]
    assert [file.name for file in storage.list_files("part")] == ["parts.txt", "parts/part-10.parquet", "parts/part-2.parquet"]
    assert {file.name: file.size_bytes for file in storage.list_files("")} == {
        "other.txt": 9,
        "parts.txt": 9,
        "parts/part-10.parquet": 21,
        "parts/part-2.parquet": 20,
    }
    assert list(storage.list_files("nothing/")) == []
    [described] = storage.list_files("other")
    assert isinstance(described, StoredFile)
    assert described.modified_at > 1_700_000_000


def test_deleting_is_final_and_may_be_repeated(storage: Storage) -> None:
    write(storage, "a.bin", b"x")
    storage.delete("a.bin")
    storage.delete("a.bin")
    assert list(storage.list_files("")) == []
    with pytest.raises(OutputError, match=r"index/a.bin: "):
        storage.open("a.bin")
    write(storage, "a.bin", b"y")
    assert read(storage, "a.bin") == b"y"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "parts/../../outside"])
def test_names_stay_inside_the_output(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside"):
        storage.open(name)


def test_a_parquet_file_is_written_to_it_and_read_from_it(storage: Storage) -> None:
    table = pa.table({"n": list(range(100_000)), "s": [str(n % 7) for n in range(100_000)]})
    with storage.create("parts/a.parquet") as file:
        pq.write_table(table, pa.PythonFile(file, mode="w"), row_group_size=10_000)
    with storage.open("parts/a.parquet") as file, pq.ParquetFile(file) as parquet:
        assert parquet.read_row_group(7, columns=["n"]).column(0).to_pylist() == list(range(70_000, 80_000))
        assert parquet.read().equals(table)


def test_the_uri_is_as_a_user_types_it(storage: Storage) -> None:
    assert storage.uri.endswith("/index")
    assert open_storage(storage.uri).uri == storage.uri


def test_an_address_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"output.uri: ftp://host/x is not supported as an output; use a folder, or s3://"):
        open_storage("ftp://host/x")


# A folder


def test_what_a_killed_run_left_half_is_listed_too(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    write(storage, "parts/part-1.parquet", b"whole")
    (tmp_path / "parts" / ".part-2.parquet.tmp").write_bytes(b"killed")
    assert [file.name for file in storage.list_files("parts/part-")] == ["parts/part-1.parquet"]
    sizes = {file.name: file.size_bytes for file in storage.list_files("parts/")}
    assert sizes == {"parts/.part-2.parquet.tmp": 6, "parts/part-1.parquet": 5}


# S3


@pytest.fixture
def bucket(s3: S3Place) -> S3Storage:
    """With a connection that is quick to give up."""
    return S3Storage(s3.hasty, parse_s3(f"{s3.uri}/index"))


def puts(fault: Fault, *numbers: int) -> Callable[[Request], Fault | None]:
    """A fault of the uploads with these numbers, from 1."""
    seen: list[Request] = []

    def plan(request: Request) -> Fault | None:
        if request.method == "PUT":
            seen.append(request)
        return fault if request.method == "PUT" and len(seen) in numbers else None

    return plan


def test_a_file_is_sent_in_one_request_with_its_checksum(s3: S3Place, bucket: S3Storage) -> None:
    write(bucket, "parts/a.bin", b"whole")
    [request] = s3.proxy.requests
    assert (request.method, request.path) == ("PUT", f"/{s3.bucket}/index/parts/a.bin")
    assert (request.headers["if-none-match"], request.headers["x-amz-checksum-crc32"]) == ("*", "xFkpTw==")
    assert s3.get("index/parts/a.bin") == b"whole"


def test_a_file_larger_than_memory_allows_is_sent_all_the_same(s3: S3Place) -> None:
    bucket = S3Storage(S3(), parse_s3(f"{s3.uri}/index"))  # sending it once can take longer than `s3.hasty` waits
    s3.proxy.plan = puts(Status(503, "SlowDown"), 1)
    with bucket.create("a.bin") as file:
        for number in range(35):
            file.write(bytes([number]) * 1_000_000)
    content = s3.get("index/a.bin")
    assert len(content) == 35_000_000 > SPOOL_BYTES
    assert [content[number * 1_000_000] for number in range(35)] == list(range(35))


@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), Status(500, "InternalError"), Reset()])
def test_an_upload_that_fails_is_repeated(s3: S3Place, bucket: S3Storage, fault: Fault) -> None:
    s3.proxy.plan = puts(fault, 1, 2)
    write(bucket, "a.bin", b"whole")
    assert s3.get("index/a.bin") == b"whole"


def test_an_upload_whose_answer_was_lost_counts(s3: S3Place, bucket: S3Storage) -> None:
    s3.proxy.plan = puts(Reset(late=True), 1)
    write(bucket, "a.bin", b"whole")
    assert [request.method for request in s3.proxy.requests] == ["PUT", "PUT", "HEAD"]
    assert s3.get("index/a.bin") == b"whole"
    with pytest.raises(OutputError, match="never replaced"):
        write(bucket, "a.bin", b"whole")


@pytest.mark.parametrize("fault", [Status(501, "NotImplemented"), Status(400, "InvalidArgument")])
def test_a_storage_without_conditions_is_used_without_them(s3: S3Place, bucket: S3Storage, fault: Fault) -> None:
    s3.put("index/b.bin", b"first")
    s3.proxy.plan = lambda request: fault if "if-none-match" in request.headers else None
    write(bucket, "a.bin", b"whole")
    assert s3.get("index/a.bin") == b"whole"
    with pytest.raises(OutputError, match="never replaced"):
        write(bucket, "b.bin", b"second")
    assert s3.get("index/b.bin") == b"first"
    assert sum("if-none-match" in request.headers for request in s3.proxy.requests) == 1  # it is known by then


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Status(403, "AccessDenied"), r"planned AccessDenied \(AccessDenied\). These credentials need s3:PutObject"),
        (Status(404, "NoSuchBucket"), r"Make the bucket, or correct output.uri"),
        (Status(503, "SlowDown"), r"Is the network up, and AWS_ENDPOINT_URL_S3 right\?"),
        (Status(400, "InvalidRequest"), r"Check output.uri and the settings of the storage"),
    ],
)
def test_an_output_that_cannot_be_written_says_so(s3: S3Place, bucket: S3Storage, fault: Fault, sentence: str) -> None:
    s3.proxy.plan = lambda request: fault
    with pytest.raises(OutputError, match=rf"^s3://bucket-\w+/index/a.bin: .*{sentence}") as caught:
        write(bucket, "a.bin", b"whole")
    assert caught.value.exit_code == 14
    for act in (lambda: bucket.delete("a.bin"), lambda: list(bucket.list_files(""))):
        with pytest.raises(OutputError, match=r"^s3://"):
            act()
    assert s3.listed() == []


def test_expired_credentials_stop_the_run(s3: S3Place, bucket: S3Storage) -> None:
    s3.proxy.plan = lambda request: Status(400, "ExpiredToken")
    with pytest.raises(CredentialsError) as caught:
        write(bucket, "a.bin", b"whole")
    assert caught.value.exit_code == 12
    with pytest.raises(CredentialsError):
        bucket.open("a.bin")


def test_a_file_that_is_cut_while_it_is_read_is_read_whole(s3: S3Place, bucket: S3Storage) -> None:
    content = bytes(range(256)) * 10_000
    write(bucket, "a.bin", content)
    s3.proxy.plan = lambda request: Cut(0.5) if request.number % 2 and request.method == "GET" else None
    assert read(bucket, "a.bin") == content
    s3.proxy.plan = lambda request: Status(503, "SlowDown") if request.method == "GET" else None
    with bucket.open("a.bin") as file, pytest.raises(OutputError, match=r"index/a.bin: planned SlowDown"):
        file.read()


def test_a_list_that_is_damaged_is_no_short_list(s3: S3Place, bucket: S3Storage) -> None:
    write(bucket, "a.bin", b"whole")

    def lose(answer: Answer) -> None:
        head, rest = answer.body.split(b"<Contents>")
        answer.body = head + rest.split(b"</Contents>")[1]

    s3.proxy.plan = lambda request: Edit(lose) if request.is_list else None
    with pytest.raises(OutputError, match="a page has 0 keys where it counts 1"):
        list(bucket.list_files(""))


def test_a_disk_that_is_too_full_to_gather_a_file_is_said_so(s3: S3Place, bucket: S3Storage) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # the kernel refuses a larger file
    try:
        with pytest.raises(OutputError, match=r"a.bin: File too large, while it was gathered in .*, or set TMPDIR"):
            write(bucket, "a.bin", bytes(SPOOL_BYTES + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert s3.listed() == []


def test_a_connection_is_made_once(s3: S3Place) -> None:
    first, second = open_storage(s3.uri), open_storage(f"{s3.uri}/other")
    assert isinstance(first, S3Storage)
    assert isinstance(second, S3Storage)
    assert isinstance(first._s3, S3)
    assert first._s3 is second._s3
