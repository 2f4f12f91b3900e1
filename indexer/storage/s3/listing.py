"""What a folder in S3 holds, as a stream, and what is at the addresses that a manifest names; many requests at once."""

from __future__ import annotations

import re
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
from indexer.storage.s3.pages import PAGE_KEYS, Page, Pages
from indexer.storage.scan import Listed

LISTS_AT_ONCE = 16
LOOKS_AT_ONCE = 32
_LONGEST_WAIT_PAGES = 31
_LONG_WAIT_PAGES = 3
"""A list in which no folder was found for so long is cut between files from then on."""


def scan_objects(
    s3: S3,
    root: Address,
    *,
    wanted: Callable[[str], bool],
    entered: Callable[[str], bool] = lambda name: True,
    page_keys: int = PAGE_KEYS,
) -> Iterator[Video]:
    """The objects in the folder `root` whose name below it is `wanted`, each once, in an order that only depends on the keys.

    Of a folder that is not `entered` (asked with its name below `root`, without a slash at the end), one page is read.
    Folder markers (keys that end with a slash) are no objects. Memory: two pages for each of LISTS_AT_ONCE lists.

    Raises SourceError if the folder cannot be listed to its end, or holds nothing; CredentialsError.
    """
    found_any = False
    with _as_source_error(root):
        for page in _pages(s3, root, entered, page_keys):
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


class _List:
    """One of the lists that are read at the same time."""

    def __init__(self, pages: Pages, excluded: Callable[[str], str | None], last_wait: int = 0) -> None:
        self.is_looking = False
        """For a place where it can be cut."""
        self._pages = pages
        self._excluded = excluded
        self._pages_to_wait = 0
        """Before it looks again."""
        self._last_wait = last_wait

    def advance(self) -> tuple[Page | None, _List | None]:
        """The next page, if there is one; and, if it looked for one and found it, another list that goes on with the rest."""
        page = next(self._pages, None)
        if page is None:
            return None, None
        if excluded := self._excluded(self._pages.last_key):
            self._pages.pass_over(excluded)
        if not self.is_looking or self._pages.complete or not (place := self._place_ahead()):
            return page, None
        return page, _List(self._pages.cut(place), self._excluded, self._last_wait)

    def _place_ahead(self) -> str | None:
        """Where no folder is ahead, S3 is not asked for one after every page."""
        if self._pages_to_wait:
            self._pages_to_wait -= 1
            return None
        if self._last_wait < _LONG_WAIT_PAGES:
            if place := self._pages.middle():
                return place
        elif place := self._pages.branch():
            self._pages_to_wait = _LONGEST_WAIT_PAGES  # most of the files are often in the rest
            return place
        self._pages_to_wait = self._last_wait = min(2 * self._last_wait + 1, _LONGEST_WAIT_PAGES)
        return None


def _pages(s3: S3, root: Address, entered: Callable[[str], bool], page_keys: int) -> Iterator[Page]:
    """All pages of a folder. As long as fewer than LISTS_AT_ONCE lists are under way, each is cut where a folder begins, or
    between files where there are too many of them, so that those that are long are read by many in the end."""
    # One page of each list in turn, and the next page of each under way: quick, and the order is always the same.
    under_way: deque[tuple[_List, Future[tuple[Page | None, _List | None]]]] = deque()
    pool = ThreadPoolExecutor(LISTS_AT_ONCE, thread_name_prefix="s3-list")

    def go_on(turn: _List) -> None:
        turn.is_looking = len(under_way) + sum(each.is_looking for each, _ in under_way) + 1 < LISTS_AT_ONCE
        under_way.append((turn, pool.submit(turn.advance)))

    try:
        whole = Pages(s3, root.bucket, root.folder, page_keys=page_keys)
        go_on(_List(whole, lambda key: _excluded(root, key, entered)))
        while under_way:
            turn, step = under_way.popleft()
            page, rest = step.result()
            for each in (rest, turn if page is not None else None):
                if each:
                    go_on(each)
            if page is not None:
                yield page
    finally:
        pool.shutdown(cancel_futures=True)


def _excluded(root: Address, key: str, entered: Callable[[str], bool]) -> str | None:
    """The folder in which `key` lies and nothing is wanted, if there is one."""
    name = key.removeprefix(root.folder)
    folders = (name[: slash.start()] for slash in re.finditer("/", name))
    return next((f"{root.folder}{folder}/" for folder in folders if not entered(folder)), None)


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
