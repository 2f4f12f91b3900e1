"""What a folder in S3 holds, as a stream, and what is at the addresses that a manifest names; many requests at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

from indexer.errors import SourceError
from indexer.records import Failure, Video
from indexer.storage.address import Address, parse_s3
from indexer.storage.s3.client import S3, S3Fault
from indexer.storage.s3.objects import as_video, look_at
from indexer.storage.s3.pages import PAGE_KEYS, Page, Pages, subfolders
from indexer.storage.scan import Listed

LISTS_AT_ONCE = 16
LOOKS_AT_ONCE = 32
_LEVELS = 4
"""How deep folders are looked at to find places where a list can be cut into many."""


def scan_objects(s3: S3, root: Address, *, wanted: Callable[[str], bool], page_keys: int = PAGE_KEYS) -> Iterator[Video]:
    """The objects in the folder `root` whose name below it is `wanted`, each once, in an order that only depends on the keys.

    Folder markers (keys that end with a slash) are no objects. Memory: two pages for each of LISTS_AT_ONCE lists.

    Raises SourceError if the folder cannot be listed to its end, or holds nothing; CredentialsError.
    """
    found_any = False
    with _as_source_error(root):
        for page in _pages(s3, root, page_keys):
            for item in page:
                found_any = True
                key = item["Key"]
                if not key.endswith("/") and wanted(key.removeprefix(root.folder)):
                    yield as_video(Address(root.bucket, key), item, item["Size"])
    if root.key and not found_any:
        raise SourceError(f"source.uri: there is nothing in {root}. Correct it, or put the videos back.")


def holds_object(s3: S3, address: Address) -> bool:
    """Whether an object with some content has exactly this address. Raises SourceError, CredentialsError."""
    with _as_source_error(address):
        try:
            return look_at(s3, address).size_bytes > 0
        except S3Fault as fault:
            if fault.kind in ("gone", "denied"):
                return False
            raise


def check_answers(s3: S3, address: Address) -> None:
    """Ask for a list of one key beside `address`, which may be refused. Raises SourceError if no answer comes."""
    folder = address.key.rpartition("/")[0]
    try:
        s3.ask("list_objects_v2", address, Bucket=address.bucket, Prefix=folder, MaxKeys=1)
    except S3Fault as fault:
        if fault.kind == "unavailable":
            raise SourceError(
                f"The storage of the source does not answer any more: {fault}. Run the same command again later: finished"
                " videos are kept, and no video was blamed."
            ) from fault


def look_at_each(s3: S3, uris: Iterable[str]) -> Iterator[Listed]:
    """What is at each of these addresses, in order. Raises SourceError if S3 cannot say, CredentialsError."""
    with ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="s3-look") as pool:
        remaining = iter(uris)
        while chunk := list(islice(remaining, 8 * LOOKS_AT_ONCE)):
            yield from pool.map(lambda uri: _look(s3, uri), chunk)


def _look(s3: S3, uri: str) -> Listed:
    address = parse_s3(uri)
    with _as_source_error(address):
        try:
            return look_at(s3, address)
        except S3Fault as fault:
            unseen = Video(uri, fingerprint="", size_bytes=0, modified_at=0.0)
            match fault.kind:
                case "gone":
                    return Failure(unseen, "E_NOT_FOUND", "there is no such object")
                case "no_bucket":
                    return Failure(unseen, "E_NOT_FOUND", "there is no such bucket")
                case "denied":
                    return Failure(unseen, "E_ACCESS", f"may not be read with these credentials: {fault}")
            raise


def _pages(s3: S3, root: Address, page_keys: int) -> Iterator[Page]:
    """All pages of a folder. A folder of more than one page is cut into ranges of keys that are listed at the same time."""
    first = Pages(s3, root.bucket, root.folder, page_keys=page_keys)
    yield next(first)
    if first.complete:
        return
    cuts = _cuts(s3, root, first.last_key)
    lists = [
        Pages(s3, root.bucket, root.folder, after=low, before=high, page_keys=page_keys)
        for low, high in zip([first.last_key, *cuts], [*cuts, None], strict=True)
    ]
    pool = ThreadPoolExecutor(LISTS_AT_ONCE, thread_name_prefix="s3-list")
    try:
        # One page of each list in turn, and the next page of each under way: quick, and the order is always the same.
        waiting: deque[tuple[Pages, Future[Page | None]]] = deque((pages, pool.submit(next, pages, None)) for pages in lists)
        while waiting:
            pages, future = waiting.popleft()
            page = future.result()
            if page is not None:
                waiting.append((pages, pool.submit(next, pages, None)))
                yield page
    finally:
        pool.shutdown(cancel_futures=True)


def _cuts(s3: S3, root: Address, after: str) -> list[str]:
    """At most LISTS_AT_ONCE - 1 ascending keys after `after`, each where a subfolder begins."""
    cuts: list[str] = []
    level = [root.folder]
    with ThreadPoolExecutor(LISTS_AT_ONCE, thread_name_prefix="s3-list") as pool:
        for _ in range(_LEVELS):
            inside = pool.map(lambda folder: subfolders(s3, root.bucket, folder), level)
            level = [folder for folders in inside for folder in folders if folder > after or after.startswith(folder)]
            cuts.extend(folder for folder in level if folder > after)
            if not level or len(cuts) >= LISTS_AT_ONCE:
                break
    cuts.sort()
    count = min(len(cuts), LISTS_AT_ONCE - 1)
    return [cuts[number * len(cuts) // count] for number in range(count)]


@contextmanager
def _as_source_error(address: Address) -> Iterator[None]:
    cures = {
        "no_bucket": "Correct source.uri; or AWS_ENDPOINT_URL_S3, if the bucket is not on AWS.",
        "denied": "These credentials need s3:ListBucket on the bucket and s3:GetObject on its objects.",
        "unavailable": "Is the network up, and AWS_ENDPOINT_URL_S3 right? Run the same command again later.",
    }
    try:
        yield
    except S3Fault as fault:
        cure = cures.get(fault.kind, "Correct source.uri, or the settings of the storage.")
        raise SourceError(f"source.uri: {address} cannot be listed: {fault}. {cure} Nothing was marked gone.") from fault
