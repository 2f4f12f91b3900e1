"""What the catalog knows of the videos that a listing names, asked for while it is listed.

Memory: one byte for each video ever known, and some hundred videos. An archive may have millions, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import ColumnElement, Engine, and_, bindparam, case, func, select

from indexer.catalog.connect import reading
from indexer.catalog.lookup import find_recipe
from indexer.catalog.tables import result, video
from indexer.errors import Changed, ScratchFull, SourceFault
from indexer.records import Failure, KnownVideo, Skipped, Video

Listed = Video | Skipped | Failure

_URIS_AT_ONCE = 1_000
_IDS_AT_ONCE = 10_000

_PASSING_SKIPS = ("too_new", "gone")
"""Skip reasons that time cures while the bytes stay the same: such a video is to be looked at again."""

_PASSING_FAILURES = (SourceFault.code, ScratchFull.code, Changed.code)
"""Codes of failures that say something of a moment, and nothing of the video."""
ATTEMPTS = 3
"""So many runs try such a video unasked: an object that nobody can have any more must not cost a minute every night."""

_state: ColumnElement[str] = case(
    (and_(result.c.state == "skipped", result.c.code.in_(_PASSING_SKIPS)), "pending"),
    else_=func.coalesce(result.c.state, "pending"),
)
_LOOK_UP = (
    select(
        video.c.id,
        video.c.uri,
        _state.label("state"),
        func.coalesce(result.c.fingerprint, video.c.fingerprint).label("fingerprint"),
        (video.c.source == bindparam("source")).label("own"),
        and_(result.c.state == "failed", result.c.code.in_(_PASSING_FAILURES), result.c.attempts < ATTEMPTS).label("retry"),
        video.c.gone_at,
    )
    .outerjoin_from(video, result, and_(result.c.video_id == video.c.id, result.c.recipe_id == bindparam("recipe_id")))
    .where(video.c.uri.in_(bindparam("uris", expanding=True)))
)


class KnownVideos:
    """The videos that one source owns, as they were when this was made, and the results that other sources' videos have."""

    def __init__(self, engine: Engine, source: str, recipe_digest: str) -> None:
        self._engine = engine
        self._values = {"source": source, "recipe_id": find_recipe(engine, recipe_digest)}
        self._missing = bytearray()  # by video id: 1 for what the source owns and the listing has not named yet
        with reading(engine) as connection:
            self._missing.extend(bytes(1 + (connection.execute(select(func.max(video.c.id))).scalar() or 0)))
            owned = select(video.c.id).where(video.c.source == source, video.c.gone_at.is_(None))
            for video_id in connection.execute(owned, execution_options={"yield_per": _IDS_AT_ONCE}).scalars():
                self._missing[video_id] = 1
        self.count = self._missing.count(1)
        """How many videos the source owns that are not gone."""

    def beside(self, listed: Iterable[Listed]) -> Iterator[tuple[Listed, KnownVideo | None]]:
        """Each listed item, and what is known of its uri.

        The state is that under the recipe. It is pending also if the video has no result under it, or was skipped for a
        reason that passes by itself. A video of another source (a wider folder, another manifest) counts as known only if it
        is indexed: it need not be indexed again, and changes its owner by `commit.adopt`.
        """
        items = iter(listed)
        while some := list(islice(items, _URIS_AT_ONCE)):
            uris = [(item if isinstance(item, Video) else item.video).uri for item in some]
            known = self._look_up(uris)
            yield from zip(some, map(known.get, uris), strict=True)

    def missing(self) -> Iterator[str]:
        """The uris of the source's videos that `beside` has not come across so far, in no order."""
        ids = self._missing_ids()
        while some := list(islice(ids, _URIS_AT_ONCE)):
            with reading(self._engine) as connection:
                uris = connection.execute(select(video.c.uri).where(video.c.id.in_(some))).scalars().all()
            yield from uris

    def _look_up(self, uris: Sequence[str]) -> dict[str, KnownVideo]:
        known = {}
        with reading(self._engine) as connection:
            for row in connection.execute(_LOOK_UP, self._values | {"uris": uris}):
                if row.id < len(self._missing):
                    self._missing[row.id] = 0
                if row.gone_at is None and (row.own or row.state == "indexed"):
                    known[row.uri] = KnownVideo(row.uri, row.state, row.fingerprint, own=bool(row.own), retry=bool(row.retry))
        return known

    def _missing_ids(self) -> Iterator[int]:
        video_id = self._missing.find(1)
        while video_id >= 0:
            yield video_id
            video_id = self._missing.find(1, video_id + 1)
