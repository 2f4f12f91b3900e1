"""Who we are to S3, and where it is: as the AWS chain says, for requests as well as for links that a browser follows."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from indexer.storage.address import Address
from indexer.storage.s3.client import S3
from indexer.storage.s3.link import link
from indexer.storage.s3.listing import scan_objects
from indexer.storage.s3.video import s3_video_file
from tests.s3 import S3Place


def query_of(link: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}


def test_a_profile_says_where_and_who(s3: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"[profile archive]\nregion = eu-west-1\nendpoint_url = {s3.proxy.url}\n")
    (tmp_path / "credentials").write_text("[archive]\naws_access_key_id = AKIAARCHIVE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "archive")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    s3.put("a.mp4")
    root = Address(s3.bucket, "")
    assert [video.uri for video in scan_objects(S3(), root, wanted=lambda name: True)] == [f"{s3.uri}/a.mp4"]
    [request] = s3.proxy.requests
    signed = request.headers["authorization"]
    assert (signed.partition("Credential=")[2].split("/")[0], "/eu-west-1/s3/" in signed) == ("AKIAARCHIVE", True)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_storage_of_another_maker_is_found(s3: S3Place, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(variable, s3.proxy.url)
    connection = S3()
    connection.ask("list_objects_v2", s3.uri, Bucket=s3.bucket)
    assert len(s3.proxy.requests) == 1
    assert connection.signed(Address(s3.bucket, "a.mp4"), 60, "video/mp4").startswith(f"{s3.proxy.url}/{s3.bucket}/a.mp4?")


@pytest.mark.parametrize(
    ("region", "bucket", "expected"),
    [
        ("eu-west-1", "films", "https://films.s3.eu-west-1.amazonaws.com/a%20b.mp4"),
        ("eu-west-1", "my.films", "https://s3.eu-west-1.amazonaws.com/my.films/a%20b.mp4"),
        ("us-east-1", "films", "https://films.s3.amazonaws.com/a%20b.mp4"),
    ],
)
def test_links_lead_to_the_region_of_the_bucket(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch, region: str, bucket: str, expected: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_REGION", region)
    made = S3().signed(Address(bucket, "a b.mp4"), 60, "video/mp4")
    assert made.partition("?")[0] == expected
    assert f"/{region}/s3/" in query_of(made)["X-Amz-Credential"]


def test_the_buckets_of_others_are_read_and_linked_at_our_cost(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    connection = S3()
    s3.put("a.mp4", b"a film")
    [video] = scan_objects(connection, Address(s3.bucket, ""), wanted=lambda name: True)
    with s3_video_file(connection, video) as (_, file):
        assert Path(file.whole()).read_bytes() == b"a film"
    made = link(connection, video, "video/mp4")
    assert {request.headers.get("x-amz-request-payer") for request in s3.proxy.requests} == {"requester"}
    query = query_of(made)
    assert (query["x-amz-request-payer"], query["X-Amz-SignedHeaders"]) == ("requester", "host")
    with urlopen(made) as answer:
        assert answer.read() == b"a film"
