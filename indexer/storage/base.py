"""What the program asks of the place its output lives in: a folder, or a bucket and prefix.

Names are relative, with forward slashes: parts/part-000007-0001-3f9c2a71.parquet. Every failure is an OutputError that
names the full path and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the output, as a listing shows it."""

    name: str
    size_bytes: int
    modified_at: float
    """Unix time in seconds, by the clock of the storage."""


def check_name(name: str) -> str:
    """`name`, if it is one inside the output. Anything else is a mistake in the program: ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} is not a name inside the output folder")
    return name


class Storage(Protocol):
    """A flat set of named files, each of which appears whole or not at all and never changes afterwards, but by `replace`."""

    @property
    def uri(self) -> str:
        """The root, as a user would type it."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A write-only, sequential file. `name` appears, durable, when the block ends well; after an exception nothing does.

        A file that already has this name is never replaced: OutputError.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Write a small file that may be there already: readers find the old one or the new one."""

    def open(self, name: str) -> BinaryIO:
        """A seekable file for reading."""

    def delete(self, name: str) -> None:
        """Delete `name`; nothing happens if it is not there."""

    def list_files(self, prefix: str) -> Iterator[StoredFile]:
        """Files whose name starts with `prefix`, sorted by name.

        In a folder, what a killed `create` has left shows too, as FOLDER/.NAME.tmp.
        """
