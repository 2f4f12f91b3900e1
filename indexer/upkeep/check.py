"""`indexer check`: whether every live result has its part, and rows, hits and counts agree.

    catalog alone      columns that contradict each other, hits of no live result, label_stat against the hits
    each live part     there, of its size, its footer against the results that name it
      deep             its sha256 and its rows against the hits, one by one
    all files, deep    no footer names a video that the catalog does not know

All of the catalog is read in one view: a run may be at work meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine

from indexer.catalog import audit
from indexer.catalog.audit import OneResult
from indexer.catalog.connect import reading
from indexer.catalog.parts import LiveVideo, PartRow, list_parts, live_videos
from indexer.storage import Storage, StoredFile
from indexer.upkeep.census import Census, fingerprints, take_census
from indexer.upkeep.findings import Finding
from indexer.upkeep.strangers import strangers
from indexer.write import staging
from indexer.write.footer import Footer, PartVideo
from indexer.write.parquet import FOLDER, is_part_name
from indexer.write.read import UNREADABLE, read_footer
from indexer.write.rows import PartHits, read_hits

GRACE_SECONDS = 24 * 3600.0
"""A part that the catalog does not know may be about to be committed. Nothing takes this long."""
_CHUNK_BYTES = 1 << 20


def check(engine: Engine, storage: Storage, *, deep: bool, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    """Everything that is wrong, and the parts that nobody knows. `progress` hears of how many parts are looked at."""
    with reading(engine) as connection:
        parts = list_parts(connection)  # before the files: what is committed later is no concern of this check
        census = take_census(connection)
        files = {file.name: file for file in storage.list_files(FOLDER)}
        if deep:
            for text in audit.broken_pages(connection):
                yield Finding("database_damaged", "catalog", text)
        yield from _of_catalog(connection, census)
        live = [part for part in parts if part.state == "live"]
        labels = audit.label_ids(connection)
        for number, part in enumerate(live):
            progress(number, len(live))
            yield from _PartCheck(part, live_videos(connection, part.part_id), census).findings(
                storage, files.get(part.name), labels.get(part.recipe_id, {}) if deep else None
            )
    known = {part.name for part in parts}
    now = time.time()
    for file in files.values():
        if is_part_name(file.name) and file.name not in known:
            code = "orphan" if now - file.modified_at > GRACE_SECONDS else "orphan_new"
            yield Finding(code, file.name, f"the catalog does not know this file of {file.size_bytes:,} bytes")
    if deep:
        others = [*files.values(), *storage.list_files(staging.FOLDER)]
        names = [file.name for file in others if is_part_name(file.name) or staging.is_staged_name(file.name)]
        yield from strangers(engine, storage, names, told=frozenset(part.name for part in live))


def _of_catalog(connection: Connection, census: Census) -> Iterator[Finding]:
    """What can be seen without any part."""
    for one in audit.contradictions(connection):
        yield Finding("result_state", one.uri, "what the catalog says of it contradicts itself", (one,))
    for name in audit.wrong_part_states(connection):
        yield Finding("part_state", name, "it is live and no result names it, or the other way round")
    stray = sorted(census.stray)
    uris = audit.uris(connection, [video_id for _, video_id in stray])
    for recipe_id, video_id in stray:
        uri = uris.get(video_id)
        damaged = () if uri is None else (OneResult(uri, recipe_id),)
        yield Finding("stray_hits", uri or f"video {video_id}", "there are hits of it, and no live result", damaged)
    kept = audit.kept_counts(connection)
    names = {(recipe, n): name for recipe, labels in audit.label_ids(connection).items() for name, n in labels.items()}
    wrong = {key[:2] for key in kept.keys() | census.counts.keys() if kept.get(key, 0) != census.counts.get(key, 0)}
    for recipe_id, label_id in sorted(wrong):
        counted, noted = (_of_label(counts, recipe_id, label_id) for counts in (census.counts, kept))
        message = f"there are {counted} hits in its ten ranges of scores, and label_stat says {noted}"
        yield Finding("label_counts", names.get((recipe_id, label_id), f"label {label_id}"), message)


def _of_label(counts: audit.Counts, recipe_id: int, label_id: int) -> list[int]:
    return [counts.get((recipe_id, label_id, bucket), 0) for bucket in range(10)]


@dataclass(frozen=True, slots=True)
class _PartCheck:
    """One live part, and what the catalog says of it."""

    part: PartRow
    videos: list[LiveVideo]
    census: Census

    def findings(self, storage: Storage, file: StoredFile | None, labels: Mapping[str, int] | None) -> Iterator[Finding]:
        """With `labels`, the ids of the names, all of the file is read."""
        part = self.part
        if file is None:
            yield self._all("part_missing", f"{storage.uri}/{part.name} is not there")
            return
        if file.size_bytes != part.size_bytes:
            yield self._all("part_size", f"it has {file.size_bytes:,} bytes, and had {part.size_bytes:,}")
            return
        hits = None
        with storage.open(part.name) as opened:
            try:
                if labels is not None:
                    digest = hashlib.sha256()
                    while chunk := opened.read(_CHUNK_BYTES):
                        digest.update(chunk)
                    if digest.hexdigest() != part.sha256:
                        yield self._all("part_damaged", "its bytes are not those that were written: another sha256")
                        return
                    opened.seek(0)
                    hits = read_hits(opened)
                footer = read_footer(opened) if hits is None else hits.footer
            except UNREADABLE as error:
                yield self._all("part_damaged", f"it cannot be read: {error}")
                return
        if footer.rows != part.rows:
            yield self._all("part_damaged", f"it has {footer.rows:,} rows, and had {part.rows:,}")
            return
        yield from self._against(footer, hits, labels or {})

    def _against(self, footer: Footer, hits: PartHits | None, labels: Mapping[str, int]) -> Iterator[Finding]:
        """Each video that is live here, in the part and in the catalog."""
        described = {video.uri: (number, video) for number, video in enumerate(footer.videos)}
        found = None if hits is None else _fingerprints_of(hits, labels)
        for video in self.videos:
            number, there = described.get(video.uri, (0, None))
            count, fingerprint = self.census.of(self.part.recipe_id, video.video_id)
            if wrong := _rows_differ(video, there):
                yield self._one("video_rows", video, wrong)
            elif hits is not None and hits.clips[number] != video.clips:
                yield self._one("video_rows", video, f"{self.part.name} has {hits.clips[number]:,} clips, not {video.clips:,}")
            elif there is not None and there.hits != count:
                yield self._one("video_hits", video, f"{self.part.name} has {there.hits:,} labels, the catalog {count:,} hits")
            elif found is not None and found[number] != fingerprint:
                yield self._one("video_hits", video, f"its hits are not the labels, times and scores of {self.part.name}")

    def _all(self, code: str, message: str) -> Finding:
        return Finding(
            code, self.part.name, message, tuple(OneResult(video.uri, self.part.recipe_id) for video in self.videos)
        )

    def _one(self, code: str, video: LiveVideo, message: str) -> Finding:
        return Finding(code, video.uri, message, (OneResult(video.uri, self.part.recipe_id),))


def _rows_differ(video: LiveVideo, there: PartVideo | None) -> str:
    """What is wrong; empty if nothing is."""
    if there is None:
        return "its part has no rows of it"
    if there.fingerprint != video.fingerprint:
        return "its part has rows of other bytes than the catalog says"
    if there.rows != video.segments:
        return f"its part has {there.rows:,} rows of it, the catalog says {video.segments:,}"
    return ""


def _fingerprints_of(hits: PartHits, labels: Mapping[str, int]) -> NDArray[np.uint64]:
    """[videos], comparable to those of the census."""
    ids = np.array([labels.get(name, -1) for name in hits.names] or [-1], np.int64)
    each = fingerprints(ids[hits.name], hits.start_ms, hits.end_ms, hits.score)
    sums = np.zeros(len(hits.footer.videos), np.uint64)
    np.add.at(sums, hits.video, each)
    return sums
