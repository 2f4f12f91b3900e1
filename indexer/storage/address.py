"""How an s3:// address looks, and the bucket and key in it. Text only: no boto3, no network.

s3://bucket/masters/2023/a b%.mp4      bucket "bucket", key "masters/2023/a b%.mp4", character for character
s3://bucket/masters                    as a folder: every key that begins with "masters/"
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCHEME = "s3://"
S3_PATTERN = r"s3://[A-Za-z0-9][A-Za-z0-9._\-]{1,253}[A-Za-z0-9](/.*)?"
"""A regular expression, plain enough for JSON Schema."""


class Address(NamedTuple):
    """What an s3:// address names. `key` may be empty: the bucket itself."""

    bucket: str
    key: str

    @property
    def folder(self) -> str:
        """What the keys of the objects in this folder begin with."""
        return f"{self.key}/" if self.key and not self.key.endswith("/") else self.key

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def is_s3(uri: str) -> bool:
    return uri.startswith(SCHEME)


def parse_s3(uri: str) -> Address:
    """The bucket and key of `uri`. ValueError, with a sentence, if it is no s3:// address."""
    if not re.fullmatch(S3_PATTERN, uri, re.DOTALL):
        raise ValueError("is not an s3:// address; write for example s3://bucket/folder")
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    return Address(bucket, key)
