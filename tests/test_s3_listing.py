"""What is found in a bucket, or named by a manifest, through a network and a storage that have their faults."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.config import Source
from indexer.errors import ConfigError, CredentialsError, SourceError
from indexer.plan.listing import list_source
from indexer.records import Failure, Skipped, Video
from indexer.storage.address import Address, parse_s3
from indexer.storage.s3.client import S3, Patience
from indexer.storage.s3.listing import scan_objects
from indexer.storage.source import scan
from tests.s3 import Answer, Edit, Fault, Request, Reset, S3Place, Status


def listed(place: S3Place, uri: str = "", **settings: object) -> list[str]:
    """Keys, with what else is said of them."""
    source = Source.model_validate({"uri": uri or place.uri, "min_age": "0s"} | settings)
    words = []
    for item in list_source(source, now=time.time()):
        video = item if isinstance(item, Video) else item.video
        word = "" if isinstance(item, Video) else f" {item.reason if isinstance(item, Skipped) else item.code}"
        words.append(video.uri.removeprefix(f"{place.uri}/") + word)
    return words


def scanned(place: S3Place, *, page_keys: int, connection: S3 | None = None) -> list[str]:
    """All keys, in pages of so many."""
    connection = connection or place.hasty
    videos = scan_objects(connection, parse_s3(place.uri), wanted=lambda name: True, page_keys=page_keys)
    return [video.uri.removeprefix(f"{place.uri}/") for video in videos]


# Folders


def test_a_video_is_described_by_its_listing(s3: S3Place) -> None:
    s3.put("2023/a.mp4", b"12345")
    modified = s3.client.head_object(Bucket=s3.bucket, Key="2023/a.mp4")["LastModified"].timestamp()
    [found] = scan(s3.uri, wanted=lambda name: True, entered=lambda name: True, warn=print)
    assert found == Video(f"{s3.uri}/2023/a.mp4", "5-827ccb0eea8a706c4c34a16891f84e7b", 5, modified)


def test_odd_keys_stay_as_they_are_and_find_back(s3: S3Place) -> None:
    odd = [
        " lead.mp4",
        "%03d.mp4",
        "+plus &amp;.mp4",
        "../up.mp4",
        "/slash.mp4",
        "a//b.mp4",
        "a<b>&\"'.mp4",
        "caf\u00e9.mp4",
        "cafe\u0301.mp4",
        "q?x=1#y.mp4",
        "\U0001f600.mp4",
    ]
    for key in odd:
        s3.put(key, key.encode())
    assert listed(s3) == sorted(odd)
    manifest = "\n".join(json.dumps({"uri": f"{s3.uri}/{key}"}) for key in odd)
    s3.put("lists/all.jsonl", manifest.encode())
    assert listed(s3, f"{s3.uri}/lists/all.jsonl") == odd


def test_a_folder_is_not_its_neighbours(s3: S3Place) -> None:
    for key in ("news/a.mp4", "news/x/b.mp4", "news-old/c.mp4", "news.mp4", "news"):
        s3.put(key, b"" if key == "news" else b"video")
    assert listed(s3, f"{s3.uri}/news/") == ["news/a.mp4", "news/x/b.mp4"]
    assert listed(s3, f"{s3.uri}/news") == ["news/a.mp4", "news/x/b.mp4"]


def test_folder_markers_are_no_videos(s3: S3Place) -> None:
    for key in ("clips.mp4/", "clips.mp4/a.mp4", "empty/"):
        s3.put(key)
    assert listed(s3) == ["clips.mp4/a.mp4"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["**/*.mp4"], [], ["A.MP4", "b.mp4", "x/c.mp4", "x/proxies/d.mp4"]),
        (["*.mp4"], [], ["A.MP4", "b.mp4"]),
        (["x/**"], ["**/*.txt"], ["x/c.mp4", "x/proxies/d.mp4"]),
        (["**/*.mp4"], ["**/proxies"], ["A.MP4", "b.mp4", "x/c.mp4"]),
    ],
)
def test_include_and_exclude(s3: S3Place, include: list[str], exclude: list[str], expected: list[str]) -> None:
    for name in ("A.MP4", "b.mp4", "x/c.mp4", "x/notes.txt", "x/proxies/d.mp4"):
        s3.put(f"root/{name}")
    s3.put("z.mp4")
    found = listed(s3, f"{s3.uri}/root", include=include, exclude=exclude)
    assert [key.removeprefix("root/") for key in found] == expected


def test_an_object_that_is_young_waits(s3: S3Place) -> None:
    s3.put("a.mp4")
    assert listed(s3, min_age="10m") == ["a.mp4 too_new"]


@pytest.mark.parametrize("page_keys", [1, 7, 1000])
def test_a_long_list_is_complete_and_always_in_the_same_order(s3: S3Place, page_keys: int) -> None:
    keys = [f"{year}/{month:02d}/{number}.mp4" for year in (2019, 2020, 2021) for month in (1, 7) for number in range(3)]
    keys += ["0.mp4", "2020", "2020.mp4", "2020/0.mp4", "2021/07", "2022/only/one/deep.mp4", "z.mp4", "é/é.mp4"]
    for key in keys:
        s3.put(key)

    def jitter(request: Request) -> None:
        time.sleep(random.random() * 0.01)

    s3.proxy.plan = jitter
    first = scanned(s3, page_keys=page_keys)
    assert sorted(first) == sorted(keys)
    assert scanned(s3, page_keys=page_keys) == first


def test_a_list_is_cut_at_its_folders_and_read_in_parallel(s3: S3Place) -> None:
    for folder in "abcd":
        for number in range(6):
            s3.put(f"show/{folder}/{number}.mp4")
    assert len(scanned(s3, page_keys=3)) == 24
    lists = [request.query for request in s3.proxy.requests if "delimiter" not in request.query]
    assert {query["start-after"] for query in lists if "start-after" in query} == {"show/b/", "show/c/", "show/d/"}


class InMemory:
    """A bucket that answers lists as S3 does, and remembers which list, by where it began, had how many pages."""

    patience = Patience()

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(keys)
        self.pages: Counter[str] = Counter()
        self.looks = 0
        self.most_alive = 0
        self._alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def ask(
        self,
        operation: str,
        address: object,
        *,
        Prefix: str,  # noqa: N803
        MaxKeys: int = 1000,  # noqa: N803
        Delimiter: str = "",  # noqa: N803
        StartAfter: str = "",  # noqa: N803
        ContinuationToken: str = "",  # noqa: N803
        **_: object,
    ) -> dict[str, Any]:
        begin, _, after = ContinuationToken.partition("\0") if ContinuationToken else (StartAfter, "", StartAfter)
        keys = self.keys[bisect_right(self.keys, after) :] if after else self.keys
        found: list[str] = []
        for key in keys:
            name = key[: key.index("/", len(Prefix)) + 1] if Delimiter and "/" in key[len(Prefix) :] else key
            if key.startswith(Prefix) and name not in found[-1:]:
                found.append(name)
            if len(found) > MaxKeys:
                break
        page, is_cut = found[:MaxKeys], len(found) > MaxKeys
        items = [Item(name) for name in page if not (Delimiter and name.endswith("/"))]
        self._alive.update(items)
        self.most_alive = max(self.most_alive, len(self._alive))
        if Delimiter or MaxKeys == 1:
            self.looks += 1
        else:
            self.pages[begin] += 1
        folders = [{"Prefix": name} for name in page if Delimiter and name.endswith("/")]
        more = {"NextContinuationToken": f"{begin}\0{page[-1]}"} if is_cut else {}
        return {"Contents": items, "CommonPrefixes": folders, "IsTruncated": is_cut} | more

    def scan(self, page_keys: int, **options: Any) -> list[str]:
        videos = scan_objects(self, Address("b", ""), wanted=lambda name: True, page_keys=page_keys, **options)  # type: ignore[arg-type]
        return [video.uri.removeprefix("s3://b/") for video in videos]


class Item(dict[str, Any]):
    """What a list says of one key."""

    def __init__(self, key: str) -> None:
        super().__init__(Key=key, Size=1, ETag='"e"', LastModified=EPOCH)

    __hash__ = object.__hash__  # type: ignore[assignment]


EPOCH = datetime.fromtimestamp(0, UTC)
KEYS = st.sets(st.text("ab/0\U0010ffff", min_size=1, max_size=6), max_size=60)


@settings(deadline=None, max_examples=150)
@given(KEYS, st.integers(1, 7))
def test_however_a_list_is_cut_every_key_comes_once_and_the_order_is_always_the_same(keys: set[str], page_keys: int) -> None:
    bucket = InMemory(keys)
    found = bucket.scan(page_keys)
    assert sorted(found) == sorted(key for key in keys if not key.endswith("/"))
    assert bucket.scan(page_keys) == found


@settings(deadline=None, max_examples=100)
@given(KEYS, st.integers(1, 4))
def test_of_a_folder_that_is_not_entered_one_page_is_read(keys: set[str], page_keys: int) -> None:
    def entered(name: str) -> bool:
        return not f"/{name}/".endswith("/a/")

    found = InMemory(keys).scan(page_keys, entered=entered)
    outside = {key for key in keys if not key.endswith("/") and "/a/" not in f"/{key}"}
    assert outside == {key for key in found if "/a/" not in f"/{key}"}
    bucket = InMemory([f"a/{number:03}" for number in range(100)] + ["b/1"])
    assert bucket.scan(10, entered=entered)[-1] == "b/1"
    assert sum(bucket.pages.values()) <= 4


@pytest.mark.parametrize(
    "sizes",
    [[2] * 5_000, [5] * 19 + [9_905], [9_905] + [5] * 19],
    ids=["many folders", "the last is heavy", "the first is heavy"],
)
def test_a_long_list_is_read_by_many(sizes: list[int]) -> None:
    keys = [f"{folder:04}/{number // 100:03}/{number:05}" for folder, size in enumerate(sizes) for number in range(size)]
    bucket = InMemory(keys)
    assert sorted(bucket.scan(100)) == keys
    pages = bucket.pages.total()
    assert max(bucket.pages.values()) <= 0.2 * pages, bucket.pages
    assert pages <= 150  # of 100
    assert bucket.looks <= 60


FLAT = {
    "numbers": [f"tape {number:05}.mp4" for number in range(20_000)],
    "hexadecimal": [hashlib.sha256(b"%d" % number).hexdigest() for number in range(20_000)],
    "below folders": [f"2023/a/{number}.mp4" for number in range(19_900)] + [f"2023/z{number}.mp4" for number in range(100)],
}


@pytest.mark.parametrize("keys", FLAT.values(), ids=FLAT)
def test_a_folder_of_many_files_is_read_by_many(keys: list[str]) -> None:
    bucket = InMemory(keys)
    assert sorted(bucket.scan(20)) == sorted(keys)
    assert max(bucket.pages.values()) <= 130, bucket.pages
    assert bucket.pages.total() <= 1_100  # of 1,000, if no page is broken off where a list is cut
    assert bucket.looks <= 170


def test_the_memory_of_a_listing_does_not_grow_with_it() -> None:
    def most_alive(count: int) -> int:
        bucket = InMemory(f"{number // 100:03}/{number:05}" for number in range(count))
        for _ in scan_objects(bucket, Address("b", ""), wanted=lambda name: True, page_keys=50):  # type: ignore[arg-type]
            pass
        return bucket.most_alive

    assert most_alive(5_000) <= 2 * 17 * 50
    assert most_alive(20_000) <= 2 * 17 * 50


# Faults of a list


def edit_page(place: S3Place, number: int, edit: Callable[[bytes], bytes], *, times: int = 1) -> None:
    """Change the answer to the list request of this number, from 0, `times` times."""
    seen = []

    def change(answer: Answer) -> None:
        answer.body = edit(answer.body)

    def plan(request: Request) -> Fault | None:
        if not request.is_list or "delimiter" in request.query:
            return None
        seen.append(request)
        return Edit(change) if number <= len(seen) - 1 < number + times else None

    place.proxy.plan = plan


def put_many(place: S3Place, count: int = 16) -> list[str]:
    keys = [f"{number:02d}.mp4" for number in range(count)]
    for key in keys:
        place.put(key)
    return keys


def test_a_page_that_comes_twice_gives_nothing_twice(s3: S3Place) -> None:
    keys = put_many(s3)
    for number in (1, 2, 3):
        before: list[bytes] = []

        def repeat(body: bytes, before: list[bytes] = before) -> bytes:
            before.append(body)
            return before[-2] if len(before) == 2 else body

        edit_page(s3, number - 1, repeat, times=1000)
        assert scanned(s3, page_keys=4) == keys


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[: len(body) // 2],
        lambda body: b"",
        lambda body: re.sub(rb"<Contents>.*?</Contents>", b"", body, count=1, flags=re.DOTALL),
        lambda body: re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", body),
    ],
    ids=["cut", "empty", "a key is missing", "no token"],
)
def test_a_damaged_page_is_asked_for_again(s3: S3Place, damage: Callable[[bytes], bytes]) -> None:
    keys = put_many(s3)
    for number in (0, 2):
        edit_page(s3, number, damage)
        assert scanned(s3, page_keys=4) == keys
    edit_page(s3, 1, damage, times=1000)
    with pytest.raises(SourceError, match=r"cannot be listed: .* Nothing was marked gone"):
        scanned(s3, page_keys=4)


def test_a_list_out_of_order_is_refused(s3: S3Place) -> None:
    put_many(s3)
    edit_page(s3, 1, lambda body: body.replace(b"<Key>05.mp4", b"<Key>01.mp5"))
    with pytest.raises(SourceError, match="its list is not in the order of the keys"):
        scanned(s3, page_keys=4)


def test_a_list_that_goes_in_circles_is_refused(s3: S3Place) -> None:
    put_many(s3)
    first: list[bytes] = []

    def circle(body: bytes) -> bytes:
        first.append(body)
        return first[0]

    edit_page(s3, 0, circle, times=1000)
    with pytest.raises(SourceError, match="the same page of its list comes again and again"):
        scanned(s3, page_keys=4)


def test_a_storage_with_bad_moments_is_listed_all_the_same(s3: S3Place) -> None:
    keys = put_many(s3, 24)
    dice = random.Random(7)
    faults: list[Fault] = [Status(503, "SlowDown"), Status(500, "InternalError"), Reset()]
    s3.proxy.plan = lambda request: dice.choice(faults) if dice.random() < 0.3 else None
    assert scanned(s3, page_keys=5, connection=S3(patience=Patience(longest_pause_seconds=0.2))) == keys


def fails_from(number: int, fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault if request.number >= number else None


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (Status(403, "AccessDenied"), SourceError, "These credentials need s3:ListBucket on the bucket"),
        (Status(404, "NoSuchBucket"), SourceError, r"planned NoSuchBucket \(NoSuchBucket\). Correct source.uri"),
        (Status(503, "SlowDown"), SourceError, "Is the network up, and AWS_ENDPOINT_URL_S3 right"),
        (Reset(), SourceError, "Is the network up, and AWS_ENDPOINT_URL_S3 right"),
        (Status(400, "ExpiredToken"), CredentialsError, "S3 does not accept the credentials"),
        (Status(403, "InvalidAccessKeyId"), CredentialsError, "finished videos are kept"),
    ],
)
def test_a_list_that_ends_early_is_an_error(
    s3: S3Place, fault: Fault, error: type[SourceError | CredentialsError], sentence: str
) -> None:
    put_many(s3)
    for number in (1, 4):
        s3.proxy.requests.clear()
        s3.proxy.plan = fails_from(number, fault)
        with pytest.raises(error, match=sentence) as caught:
            scanned(s3, page_keys=4)
        assert caught.value.exit_code == (10 if error is SourceError else 12)


def test_a_folder_with_nothing_in_it_is_a_mistake(s3: S3Place) -> None:
    s3.put("masters/a.mp4")
    with pytest.raises(SourceError, match=r"there is nothing in s3://bucket-\w+/mastres. Correct it"):
        listed(s3, f"{s3.uri}/mastres")
    s3.delete("masters/a.mp4")
    assert listed(s3) == []


def test_no_credentials_are_said_so(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"^No AWS credentials: .*Set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        scanned(s3, page_keys=4, connection=S3())
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialsError, match=r"^No AWS credentials: .*\(nobody\) could not be found"):
        S3()


def test_an_endpoint_that_is_no_address_is_said_so(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000")
    with pytest.raises(ConfigError, match=r"Invalid endpoint: minio:9000. Correct AWS_ENDPOINT_URL_S3"):
        S3()


def test_an_endpoint_that_never_answered_is_given_up_sooner(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    put_many(s3, 2)
    connection = S3(patience=Patience(first_contact_seconds=0.2, longest_pause_seconds=0.1))
    s3.proxy.plan = lambda request: Reset() if request.number < 10 else None
    with pytest.raises(SourceError, match="Is the network up"):
        scanned(s3, page_keys=4, connection=connection)
    s3.proxy.reset()
    assert len(scanned(s3, page_keys=4, connection=connection)) == 2
    s3.proxy.reset()
    s3.proxy.plan = lambda request: Reset() if request.number < 10 else None
    assert len(scanned(s3, page_keys=4, connection=connection)) == 2


# Manifests


def test_a_manifest_in_s3_names_videos_relative_to_itself(s3: S3Place, tmp_path: Path) -> None:
    for key in ("lists/a.mp4", "lists/sub/b, c.dat", "other/d.mp4"):
        s3.put(key)
    (tmp_path / "local.mp4").write_bytes(b"video")
    rows = ["a.mp4", "sub/b, c.dat", "../other/./d.mp4", f"{s3.uri}/other/d.mp4", "missing.mp4", f"{tmp_path}/local.mp4"]
    pq.write_table(pa.table({"uri": rows}), tmp_path / "all.parquet")
    s3.put("lists/all.parquet", (tmp_path / "all.parquet").read_bytes())
    assert listed(s3, f"{s3.uri}/lists/all.parquet") == [
        "lists/a.mp4",
        "lists/sub/b, c.dat",
        "other/d.mp4",
        "lists/missing.mp4 E_NOT_FOUND",
        f"{tmp_path}/local.mp4",
    ]
    assert not list(tmp_path.glob("indexer-scratch-*/copy-*"))


def test_a_manifest_on_a_disk_names_objects(s3: S3Place, tmp_path: Path) -> None:
    for number in range(40):
        s3.put(f"{number}.mp4", bytes(number))
    s3.put("proxies/x.mp4")
    rows = [f"{s3.uri}/{number}.mp4" for number in reversed(range(40))] + [f"{s3.uri}/proxies/x.mp4"]
    rows += [f"{s3.uri}/secret.mp4", "s3://no-bucket-of-this-name/a.mp4"]
    (tmp_path / "all.csv").write_text("uri\n" + "\n".join(rows))
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.key == "secret.mp4" else None
    found = listed(s3, str(tmp_path / "all.csv"), exclude=["**/proxies/**"])
    assert found[:40] == [f"{number}.mp4" for number in reversed(range(40))]
    assert found[40:] == ["secret.mp4 E_ACCESS", "s3://no-bucket-of-this-name/a.mp4 E_NOT_FOUND"]


def test_what_a_manifest_names_has_the_fingerprint_of_a_list(s3: S3Place, tmp_path: Path) -> None:
    s3.put("a.mp4", b"12345")
    (tmp_path / "all.csv").write_text(f"uri\n{s3.uri}/a.mp4\n")
    by_manifest = list(list_source(Source(uri=str(tmp_path / "all.csv"), min_age="0s"), now=time.time()))
    assert by_manifest == list(list_source(Source(uri=s3.uri, min_age="0s"), now=time.time()))


def test_credentials_that_end_among_the_rows_stop_the_run(s3: S3Place, tmp_path: Path) -> None:
    for number in range(20):
        s3.put(f"{number}.mp4")
    (tmp_path / "all.csv").write_text("uri\n" + "\n".join(f"{s3.uri}/{number}.mp4" for number in range(20)))
    # The answer to a HEAD has no body, and real S3 answers 400 there: which error it is, only a GET can tell.
    s3.proxy.plan = fails_from(11, Status(400, "ExpiredToken"))
    with pytest.raises(CredentialsError, match="ExpiredToken"):
        listed(s3, str(tmp_path / "all.csv"))


def test_a_manifest_at_the_top_of_a_bucket(s3: S3Place) -> None:
    for key in ("a.mp4", "x/b.mp4"):
        s3.put(key)
    s3.put("all.csv", b"uri\na.mp4\nx/../x/b.mp4\n../../a.mp4\n")
    assert listed(s3, f"{s3.uri}/all.csv") == ["a.mp4", "x/b.mp4"]


def test_a_wrong_manifest_in_s3_says_where(s3: S3Place) -> None:
    s3.put("all.csv", b"uri\na.mp4\nhttps://host/b.mp4\n")
    s3.put("a.mp4")
    with pytest.raises(ConfigError, match=r"^s3://bucket-\w+/all.csv:3: https://host/b.mp4 is an address of another kind"):
        listed(s3, f"{s3.uri}/all.csv")
    with pytest.raises(ConfigError, match=r"a.mp4 is neither a folder nor a manifest"):
        listed(s3, f"{s3.uri}/a.mp4")
    with pytest.raises(SourceError, match=r"there is nothing in s3://bucket-\w+/missing.csv"):
        listed(s3, f"{s3.uri}/missing.csv")


def test_unseen_rows_keep_an_empty_fingerprint(s3: S3Place, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(f"uri\n{s3.uri}/a.mp4\n")
    source = Source(uri=str(tmp_path / "all.csv"), min_age="0s")
    [failure] = list_source(source, now=time.time())
    assert failure == Failure(Video(f"{s3.uri}/a.mp4", "", 0, 0.0), "E_NOT_FOUND", "there is no such object")
