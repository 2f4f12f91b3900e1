"""Videos that files of the index have rows of, and the catalog does not know: what `forget` leaves none of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Engine

from indexer.catalog.audit import known_among
from indexer.catalog.connect import reading
from indexer.errors import OutputError
from indexer.storage import Storage
from indexer.upkeep.findings import Finding
from indexer.write.read import UNREADABLE, read_footer

_NAMED = 10


def strangers(engine: Engine, storage: Storage, names: Iterable[str], *, told: frozenset[str]) -> Iterator[Finding]:
    """Read the footers of these files. One that cannot be read is named, unless it is among `told`."""
    for name in names:
        try:
            with storage.open(name) as file:
                uris = [video.uri for video in read_footer(file).videos]
        except OutputError:
            continue  # swept meanwhile, or named as missing before
        except UNREADABLE as error:
            if name not in told:
                yield Finding("part_unread", name, f"nobody can say which videos it has rows of: {error}")
            continue
        with reading(engine) as connection:  # later than the file: who writes one has claimed its videos before
            known = known_among(connection, uris)
        if unknown := [uri for uri in uris if uri not in known]:
            more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
            shown = ", ".join(unknown[:_NAMED])
            yield Finding("unknown_video", name, f"it has rows of videos that the catalog does not know: {shown}{more}")
