"""The keys of a bucket, page by page in their order: each page checked, no key twice.

A list that is cut, damaged or out of order is a fault, never a short list: what is missing from it would look deleted.
"""

from __future__ import annotations

from typing import Any

from indexer.storage.s3.client import S3, S3Fault, Waiting

PAGE_KEYS = 1000
"""The most that S3 gives."""
_TRIES = 3
_LEVELS = 8
"""How deep folders are looked at to find a place where a list can be cut."""
_LAST_CHARACTER = "\U0010ffff"

Page = list[dict[str, Any]]
"""What S3 says of each object: Key, Size, ETag, LastModified."""


class Pages:
    """An iterator over the pages of the keys that begin with `prefix`, after `after` up to `last`. Raises S3Fault."""

    def __init__(
        self, s3: S3, bucket: str, prefix: str, *, after: str = "", last: str | None = None, page_keys: int = PAGE_KEYS
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix
        self._last = last
        self._page_keys = page_keys
        self._token: str | None = None
        self._previous: set[str] = set()
        self._after = after
        self._shortest = len(prefix) + 1
        """With fewer characters than these all that is left begins alike."""
        self.last_key = after
        self.complete = False

    def __iter__(self) -> Pages:
        return self

    def __next__(self) -> Page:
        if self.complete:
            raise StopIteration
        for _ in range(_TRIES):
            begin = {"ContinuationToken": self._token} if self._token else {"StartAfter": self._after} if self._after else {}
            answer = _list(self._s3, self._bucket, self._prefix, MaxKeys=self._page_keys, **begin)
            page = self._new(answer.get("Contents", []))
            self.complete = self.complete or not answer["IsTruncated"]
            if page or self.complete or answer["NextContinuationToken"] != self._token:
                self._token = answer.get("NextContinuationToken")
                return page
        raise S3Fault("refused", "the same page of its list comes again and again")

    def cut(self, key: str) -> Pages:
        """Another iterator, over what comes after `key`, which lies ahead; this one ends with it."""
        rest = Pages(self._s3, self._bucket, self._prefix, after=key, last=self._last, page_keys=self._page_keys)
        rest._shortest = self._shortest
        self._last = key
        return rest

    def pass_over(self, folder: str) -> None:
        """Go on behind the keys that begin with `folder`, which the last one does."""
        self._token, self._previous = None, set()
        self._after = self.last_key = max(self.last_key, folder + _LAST_CHARACTER)

    def middle(self) -> str | None:
        """Where a folder begins, about in the middle of what is left; None if none is found ahead."""
        folder, found = self._prefix, None
        for _ in range(_LEVELS):
            ahead, more = self._folders_ahead(folder)
            here, slash, _ = self.last_key.removeprefix(folder).partition("/")
            is_inside = self.last_key.startswith(folder) and slash
            if len(ahead) > 1 or (ahead and is_inside):
                return ahead[-1] if more else ahead[len(ahead) // 2]
            if ahead:  # all that is left may lie in it
                folder = found = ahead[0]
            elif is_inside:
                folder += f"{here}/"
            else:
                break
        return found

    def branch(self) -> str | None:
        """A place ahead in a folder of many files: behind the keys that begin as the last one does, with as few characters
        as leave something behind them. None if nothing does."""
        found, shortest, longest = None, self._shortest, len(self.last_key)
        length = shortest  # which was right for the list that this one was cut from, so mostly it is here
        while shortest <= longest:
            place = self.last_key[:length] + _LAST_CHARACTER
            answer = _list(self._s3, self._bucket, self._prefix, MaxKeys=1, StartAfter=place)
            inside = (self._last is None or item["Key"] <= self._last for item in answer.get("Contents", []))
            if place > self.last_key and any(inside):
                found, longest, self._shortest = place, length - 1, length
            else:
                shortest = length + 1
            length = (shortest + longest) // 2
        return found

    def _folders_ahead(self, folder: str) -> tuple[list[str], bool]:
        """What the keys of folders in `folder` begin with, of one page; and whether more follow."""
        begin = {"StartAfter": self.last_key} if self.last_key else {}
        answer = _list(self._s3, self._bucket, folder, Delimiter="/", **begin)
        ahead = [each["Prefix"] for each in answer.get("CommonPrefixes", []) if each["Prefix"] > self.last_key]
        inside = [prefix for prefix in ahead if self._last is None or prefix < self._last]
        return inside, answer["IsTruncated"] and len(inside) == len(ahead)

    def _new(self, page: Page) -> Page:
        """What is new on `page`. The rest was on the page before it, or is up to another list: else keys would be lost."""
        keys = [item["Key"] for item in page]
        fresh = [item for item in page if item["Key"] > self.last_key]
        repeated = [key for key in keys if self._after < key <= self.last_key]
        if sorted(set(keys)) != keys or not self._previous.issuperset(repeated):
            raise S3Fault("refused", "its list is not in the order of the keys")
        if fresh:
            self._previous, self.last_key = set(keys), keys[-1]
        if self._last is not None and self.last_key >= self._last:
            self.complete = True
            fresh = [item for item in fresh if item["Key"] <= self._last]
        return fresh


def _list(s3: S3, bucket: str, prefix: str, **arguments: Any) -> Any:
    """One page, complete as far as S3 says."""
    waiting = Waiting(s3.patience)
    while True:
        answer = s3.ask("list_objects_v2", f"s3://{bucket}/{prefix}", Bucket=bucket, Prefix=prefix, **arguments)
        listed = len(answer.get("Contents", [])) + len(answer.get("CommonPrefixes", []))
        if "IsTruncated" not in answer:
            waiting.after(S3Fault("unavailable", "a page does not say whether more follow"))
        elif answer.get("KeyCount", listed) != listed:
            waiting.after(S3Fault("unavailable", f"a page has {listed} keys where it counts {answer['KeyCount']}"))
        elif answer["IsTruncated"] and not answer.get("NextContinuationToken"):
            waiting.after(S3Fault("unavailable", "a page says that more follow, but not how to get them"))
        else:
            return answer
