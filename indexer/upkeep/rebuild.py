"""`indexer rebuild`: the catalog anew, from the parts alone.

    footers of all parts -> which rows stand -> ONE transaction with all of them

What only the catalog knew is lost with it: failures, skips and attempts (the next run finds them again), how runs ended, and
that a video had been withdrawn whose old part is still there (the next run finds that it failed, or is gone).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa
from sqlalchemy import Engine

from indexer.catalog.anew import catalog_anew, holds_results, open_sound
from indexer.catalog.lease import Lease, acquire
from indexer.catalog.refusals import shown
from indexer.catalog.restore import StandingPart, restore
from indexer.config import Job
from indexer.errors import ConfigError
from indexer.records import IndexedVideo, Part, Recipe
from indexer.storage import Storage
from indexer.upkeep.findings import Finding
from indexer.upkeep.standing import FoundPart, standing_videos
from indexer.write.parquet import FOLDER, is_part_name
from indexer.write.read import UNREADABLE, read_footer, read_videos

NO_OWNER = ""
"""The listing of videos that are not below this job's source: whichever job finds them takes them over."""


@dataclass(slots=True)
class Rebuilt:
    """What there is in the end."""

    videos: int = 0
    """Results: a video that two models have indexed counts twice."""
    segments: int = 0
    parts: int = 0
    retired: int = 0
    """Parts whose rows were all replaced since."""
    findings: list[Finding] = field(default_factory=list)
    """Parts that cannot be read. The next run indexes their videos again."""

    def count(self, videos: Mapping[tuple[int, str], Sequence[IndexedVideo]]) -> None:
        """One more part, of which these stand."""
        standing = [indexed for some in videos.values() for indexed in some]
        self.videos += len(standing)
        self.segments += sum(len(indexed.segments) for indexed in standing)
        self.parts += bool(standing)
        self.retired += not standing


def rebuild(job: Job, storage: Storage, *, force: bool, progress: Callable[[int, int], None]) -> Rebuilt:
    """Make the catalog of `job` anew. `force` also replaces one that is sound.

    Raises ConfigError if it is sound, or no part is there; RunHeld, DatabaseError and OutputError.
    """
    if not force and next(storage.list_files(FOLDER), None) is None:
        raise ConfigError(f"{storage.uri} has no parts to make a catalog of. Is output.uri the right place, and mounted?")
    with ExitStack() as at_the_end:
        engine = open_sound(job.output.catalog)
        if engine is None:
            engine = at_the_end.enter_context(catalog_anew(job.output.catalog))
        else:
            at_the_end.callback(engine.dispose)
            if holds_results(engine) and not force:
                raise ConfigError(
                    f"{shown(job.output.catalog)} is sound, and knows what no part does: failures, skips, and how runs ended."
                    " `indexer check JOB` looks whether it agrees with the parts; --force makes it anew all the same."
                )
        lease = at_the_end.enter_context(acquire(engine, job.name))
        return fill(engine, lease, storage, source=job.source.uri, progress=progress)


def fill(engine: Engine, lease: Lease, storage: Storage, *, source: str, progress: Callable[[int, int], None]) -> Rebuilt:
    """Replace all that is in this catalog by what the parts say. `source` owns the videos that are below it."""
    parts = _Parts(storage, source, progress)
    restore(engine, lease, parts.runs(), parts.labels(), parts.read)
    return parts.rebuilt


class _Parts:
    """All parts of a storage, as a catalog has to know them."""

    def __init__(self, storage: Storage, source: str, progress: Callable[[int, int], None]) -> None:
        self._storage = storage
        self._source = source
        self._progress = progress
        self._unreadable: list[Finding] = []
        self._found = sorted(self._find(), key=lambda part: (part.footer.run_id, part.name))
        self._standing = standing_videos(self._found)
        self.rebuilt = Rebuilt()

    def runs(self) -> dict[int, tuple[Recipe, float]]:
        """The runs that wrote parts, with the recipe and about the time of each."""
        runs: dict[int, tuple[Recipe, float]] = {}
        for part in self._found:
            for run_id in {part.footer.run_id, *(video.run_id for video in part.footer.videos)}:
                recipe, earliest = runs.get(run_id, (part.footer.recipe, part.modified_at))
                runs[run_id] = recipe, min(earliest, part.modified_at)
        return runs

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Recipe digest -> all classes of its model, in its order."""
        return {part.footer.recipe.digest: part.footer.labels for part in self._found}

    def read(self) -> Iterator[StandingPart]:
        """Each part that can be read, with the videos that stand; what it comes to is in `rebuilt` then."""
        self.rebuilt = Rebuilt(findings=list(self._unreadable))
        for number, part in enumerate(self._found):
            self._progress(number, len(self._found))
            with self._storage.open(part.name) as file:
                content = file.read()
            try:
                videos = self._videos(part.name, content)
            except UNREADABLE as error:
                self.rebuilt.findings.append(_damaged(part.name, error))
                continue
            self.rebuilt.count(videos)
            known = Part(part.name, part.footer.rows, len(content), hashlib.sha256(content).hexdigest())
            yield StandingPart(known, part.footer.run_id, part.footer.recipe, videos)

    def _find(self) -> Iterator[FoundPart]:
        for file in self._storage.list_files(FOLDER):
            if not is_part_name(file.name):
                continue
            try:
                with self._storage.open(file.name) as opened:
                    footer = read_footer(opened)
                if not footer.labels:
                    raise ValueError("its footer does not list the labels of its model")
                yield FoundPart(file.name, file.size_bytes, file.modified_at, footer)
            except UNREADABLE as error:
                self._unreadable.append(_damaged(file.name, error))

    def _videos(self, name: str, content: bytes) -> dict[tuple[int, str], list[IndexedVideo]]:
        runs = {video.uri: video.run_id for video in self._standing[name]}
        videos: dict[tuple[int, str], list[IndexedVideo]] = {}
        for indexed in read_videos(pa.BufferReader(content), embeddings=False) if runs else ():
            uri = indexed.video.uri
            if uri in runs:
                owner = self._source if uri.startswith(f"{self._source.rstrip('/')}/") else NO_OWNER
                videos.setdefault((runs[uri], owner), []).append(indexed)
        return videos


def _damaged(name: str, error: BaseException) -> Finding:
    return Finding("part_damaged", name, f"it cannot be read: {error}")
