"""Finished ranges of unfinished long videos: Parquet files beside the parts, that no reader of the index looks at.

They carry the columns and footer of a part, so that a killed run loses one range and not the whole video. Their name says all:
which bytes, which recipe, which segments.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace

from indexer.errors import OutputError
from indexer.records import IndexedRange, Recipe, Video
from indexer.storage import Storage
from indexer.write.parquet import write_table
from indexer.write.read import UNREADABLE, read_videos
from indexer.write.schema import to_table

FOLDER = "staging/"
_NAME = re.compile(r"staging/\w+-(\d+)-(\d+)-\w+\.parquet")


def is_staged_name(name: str) -> bool:
    """Whether a file of this name is a staged range."""
    return _NAME.fullmatch(name) is not None


class Staging:
    """The staged ranges of one recipe."""

    def __init__(self, storage: Storage, recipe: Recipe, run_id: int) -> None:
        self._storage = storage
        self._recipe = recipe
        self._run_id = run_id
        self._touched: set[Video] = set()
        self._warned = False

    def load(self, video: Video) -> Iterator[IndexedRange]:
        """What earlier runs have finished of exactly these bytes. A file that is damaged is as good as none."""
        self._touched.add(video)
        for stored in list(self._storage.list_files(self._prefix(video))):
            named = _NAME.fullmatch(stored.name)
            if named is None:
                continue
            try:
                with self._storage.open(stored.name) as file:
                    (indexed,) = read_videos(file)
            except UNREADABLE:
                continue
            yield IndexedRange((int(named[1]), int(named[2])), replace(indexed, video=video))

    def save(self, finished: IndexedRange) -> None:
        """A range without segments is cheap to find out again, and is not kept."""
        indexed = finished.indexed
        if indexed.segments:
            self._touched.add(indexed.video)
            first, stop = finished.segments
            name = f"{self._prefix(indexed.video)}{first}-{stop}-{uuid.uuid4().hex[:8]}.parquet"
            write_table(to_table([indexed], recipe=self._recipe, run_id=self._run_id), self._storage, name)

    def sweep(self, video: Video) -> str:
        """The video has its outcome: what was kept of it is of no more use.

        Nor is it in anybody's way: a run goes on where it may not be deleted. Gives a sentence about that once, else nothing.
        """
        if video not in self._touched:
            return ""
        self._touched.remove(video)
        try:
            for stored in list(self._storage.list_files(self._prefix(video))):
                self._storage.delete(stored.name)
        except OutputError as error:
            said, self._warned = self._warned, True
            return "" if said else f"finished ranges of long videos stay in {FOLDER} until `indexer gc` deletes them: {error}"
        return ""

    def _prefix(self, video: Video) -> str:
        identity = "\n".join((self._recipe.digest, video.uri, video.fingerprint))
        return f"{FOLDER}{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}-"
