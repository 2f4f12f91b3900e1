"""The videos that a search looks into: those that the query allows, in an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, text

from indexer.search.recipes import Standing

Sort = Literal["best", "newest", "video"]
"""Order of moments: by score, then that in which their videos were first claimed; by the date of the video (last modified),
then its uri; or by its uri. Then by time. No two moments are level, so a longer answer always begins with the shorter one."""

VIDEOS_AT_ONCE = 500
_ALL = 2**62

_ORDERS: dict[Sort, str] = {"best": "id", "newest": "modified_at DESC, uri", "video": "uri"}
# The same, but sorted: planners would go through all videos in this order, and look whether they have hits.
_SORTED: dict[Sort, str] = {"best": "id", "newest": "+modified_at DESC, uri", "video": "uri || ''"}
_ABSOLUTE = ("/", "s3://")


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """What is known of a video of the answer."""

    video_id: int
    uri: str
    modified_at: float
    """Unix time in seconds."""
    duration_seconds: float
    average_fps: float
    """A description. Frames of some videos come at other distances."""
    model: str
    """That its results are from."""
    segments: int
    """Rows that the index has of it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hits that a video must have to be worth reading, as SQL. It may have them and still show nothing."""

    labels: Mapping[int, Sequence[int]]
    """Recipe id -> ids of labels, one of which it has."""
    score: int
    """At least, in ten-thousandths."""
    near: Mapping[int, Sequence[int]]
    """Recipe id -> ids of labels, one of which is near that hit; empty if nothing need be."""
    near_ms: int
    segment_ms: int
    """Length of the longest segment of these recipes."""

    @property
    def values(self) -> dict[str, int]:
        return {"score": self.score, "before_ms": self.near_ms + self.segment_ms, "after_ms": self.near_ms}

    def selects(self) -> Iterator[str]:
        """For each recipe, the ids of videos with such hits, `a`; more conditions may follow."""
        for recipe_id, ids in self.labels.items():
            hits = f"SELECT a.video_id FROM hit AS a WHERE {_of('a', recipe_id, ids)}"
            if self.near:
                near = _of("b", recipe_id, self.near.get(recipe_id, ()))
                hits += (
                    f" AND EXISTS (SELECT 1 FROM hit AS b WHERE {near} AND b.video_id = a.video_id"
                    " AND b.start_ms BETWEEN a.start_ms - :before_ms AND a.end_ms + :after_ms)"
                )
            yield hits


def _of(hit: str, recipe_id: int, label_ids: Sequence[int]) -> str:
    """Numbers of our own; the plus keeps planners away from the index by score."""
    named = ", ".join(map(str, label_ids)) or "NULL"
    return f"{hit}.recipe_id = {recipe_id} AND {hit}.label_id IN ({named}) AND +{hit}.score >= :score"


class VideoFilter:
    """Which videos are allowed, as SQL on the table video."""

    def __init__(
        self,
        *,
        under: str | None = None,
        path: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> None:
        """`under` is what the uri begins with, characters, not folders: /a/b also begins /a/bc.

        So is a `path` that is absolute. One that is not may stand anywhere in the uri, and one with * (any characters) or ?
        (any one) is a pattern for all of the uri, or for the end of it, or, if it ends in a slash, for a folder; in both,
        upper and lower case do not matter.
        """
        self._conditions = ["gone_at IS NULL"]
        self._values: dict[str, Any] = {}
        self._in_one_range = False
        if under:
            self._begins(under, "under")
        if path is not None:
            if path.endswith("/") and any(c in path for c in "*?"):
                path += "*"  # a folder: what is in it
            absolute, pattern = path.startswith(_ABSOLUTE), any(c in path for c in "*?")
            if absolute:
                self._begins(path.replace("?", "*").split("*", 1)[0], "path")
            if pattern or not absolute:
                self._conditions.append("lower(uri) LIKE :pattern ESCAPE '!'")
                self._values["pattern"] = ("" if absolute else "%") + _like(path) + ("" if pattern else "%")
        if after is not None:
            self._conditions.append("modified_at >= :after")
            self._values["after"] = after.timestamp()
        if before is not None:
            self._conditions.append("modified_at < :before")
            self._values["before"] = before.timestamp()

    def __bool__(self) -> bool:
        """Whether it refuses anything."""
        return bool(self._values)

    def count(self, connection: Connection, most: int) -> int:
        """How many videos are allowed. Counting stops at `most`."""
        some = f"SELECT 1 FROM video WHERE {self._where} LIMIT {most}"
        return int(connection.execute(text(f"SELECT count(*) FROM ({some}) AS counted"), self._values).scalar_one())

    def allows(self, video_id: str) -> str:
        """A condition on the video of a row that a statement has found; it needs `values`."""
        # As a value of each row in turn, not as a join: planners would begin with the videos.
        return f"(SELECT 1 FROM video WHERE id = {video_id} AND {self._where}) IS NOT NULL" if self else "1 = 1"

    @property
    def values(self) -> Mapping[str, Any]:
        return self._values

    def ids(self, connection: Connection, sort: Sort, wanted: Wanted, *, first: int, few: bool) -> Iterator[Sequence[int]]:
        """The ids of allowed videos that have what is wanted, in this order: as many as `first`, then more each time.

        If only `few` are allowed, those of one folder are not looked for among all videos in the order of their dates.
        """
        # As a value of each video in turn, not as a join: planners would read all hits before the first video. Of videos that
        # are in order already: the limit cuts nothing, but keeps planners from asking all of them before they sort.
        looked_up = " OR ".join(f"({hits} AND a.video_id = ordered.id LIMIT 1) IS NOT NULL" for hits in wanted.selects())
        order = (_SORTED if few and self._in_one_range and sort == "newest" else _ORDERS)[sort]
        ordered = f"SELECT id FROM video WHERE {self._where} ORDER BY {order} LIMIT {_ALL}"
        statement = text(f"SELECT id FROM ({ordered}) AS ordered WHERE {looked_up}")
        # Each one costs the database a look-up: it must find no more than are asked for.
        as_asked = {"stream_results": True, "max_row_buffer": VIDEOS_AT_ONCE}
        found = connection.execute(statement, self._values | wanted.values, execution_options=as_asked)
        yield from in_chunks(found.scalars().fetchmany, first)

    def ids_by_hits(self, connection: Connection, sort: Sort, wanted: Wanted, *, first: int) -> Iterator[Sequence[int]]:
        """The same, found through the hits, all of which are read first."""
        hits = " UNION ALL ".join(wanted.selects())
        # PostgreSQL takes them for more than they are, and would read all videos to join them.
        video = "video ON id = video_id"
        if connection.dialect.name == "postgresql":
            video = "LATERAL (SELECT * FROM video WHERE id = video_id OFFSET 0) AS video ON true"
        statement = text(
            f"SELECT id FROM (SELECT DISTINCT video_id FROM ({hits}) AS hits) AS named"
            f" JOIN {video} WHERE {self._where} ORDER BY {_SORTED[sort]}"
        )
        yield from in_chunks(connection.execute(statement, self._values | wanted.values).scalars().fetchmany, first)

    def read(self, connection: Connection, standing: Mapping[int, Standing], video_ids: Sequence[int]) -> Iterator[FoundVideo]:
        """Those of `video_ids` that are allowed and have results, in the order given."""
        # The limit cuts nothing: it makes planners look the ids up first, instead of reading all uris that begin so.
        named = f"SELECT * FROM video WHERE id IN :ids LIMIT {VIDEOS_AT_ONCE}"
        statement = text(
            f"SELECT id, uri, modified_at, duration_ms, average_fps FROM ({named}) AS named WHERE {self._where}"
        ).bindparams(bindparam("ids", expanding=True))
        rows = {row[0]: row for row in connection.execute(statement, self._values | {"ids": list(standing)}).all()}
        for video_id in video_ids:
            if row := rows.get(video_id):
                _, uri, modified_at, duration_ms, average_fps = row
                recipe, segments = standing[video_id]
                yield FoundVideo(
                    video_id, uri, modified_at, (duration_ms or 0) / 1000, average_fps or 0.0, recipe.model, segments
                )

    @property
    def _where(self) -> str:
        return " AND ".join(self._conditions)

    def _begins(self, prefix: str, name: str) -> None:
        self._in_one_range = True
        self._conditions.append(f"uri >= :{name}_first AND uri < :{name}_beyond")
        self._values |= {f"{name}_first": prefix, f"{name}_beyond": beyond(prefix)}


def in_chunks(take: Callable[[int], Sequence[int]], first: int) -> Iterator[Sequence[int]]:
    """All that there is to `take`: few at first, as the first moments are often enough, then more and more."""
    size = first
    while chunk := take(size):
        yield chunk
        size = min(2 * size, VIDEOS_AT_ONCE)


def beyond(prefix: str) -> str:
    """The first text, by code points, that is greater than all that begin with `prefix`."""
    head = prefix.rstrip("\U0010ffff")  # the last one there is: what follows it differs further to the left
    if not head:
        return prefix * 2
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


def _like(pattern: str) -> str:
    pattern = "".join(c.lower() if c.isascii() else c for c in pattern)  # as `lower` does in both databases
    for special in "!%_":
        pattern = pattern.replace(special, f"!{special}")
    return pattern.replace("*", "%").replace("?", "_")


def uris_named(connection: Connection, name: str, *, limit: int) -> list[str]:
    """The uris that are `name`, or end in it after a slash, in order."""
    named = "uri = :name OR lower(uri) LIKE :tail ESCAPE '!'"
    statement = text(f"SELECT uri FROM video WHERE gone_at IS NULL AND ({named}) ORDER BY uri LIMIT :count")
    rows = connection.execute(statement, {"name": name, "tail": "%/" + _like(name.lstrip("/")), "count": limit})
    return list(rows.scalars())
