"""Compaction: small parts, and parts whose rows are mostly dead, become few and whole ones.

    rows of live videos -> one new part, durable -> ONE transaction: it is named instead of the old ones, which retire

A part is read by everybody who searches for embeddings, or scans the index with another tool: thousands of small ones cost
more than their bytes. Killed before the transaction, an unknown part is left; after it, retired ones: `sweep` deletes both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.parts import PartRow, list_parts, live_rows, live_videos, replace_parts
from indexer.errors import OutputError
from indexer.storage import Storage
from indexer.write.rewrite import Copied, CopiedRows, copy_rows, write_rows

MOST_ROWS = 128_000
"""Of a new part: as many as a run holds in memory."""
SMALL_ROWS = MOST_ROWS // 4
FEWEST_PARTS = 8
"""So many small parts of a recipe are worth fewer ones: a row is written anew a few times, not every night."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was, or would be, done."""

    parts: int
    """That are replaced."""
    into: int
    rows: int
    """That are written anew."""
    unreadable: tuple[str, ...] = ()
    """What is wrong with parts that had to stay as they are: a sentence for each."""


def compact(
    engine: Engine, lease_token: int, storage: Storage, *, dry_run: bool, progress: Callable[[int, int], None]
) -> Compacted:
    """Replace the parts that are worth it, except those that cannot be read.

    Raises OutputError if nothing can be read or written any more; what was replaced before stays so.
    """
    with reading(engine) as connection:
        parts = [part for part in list_parts(connection) if part.state == "live"]
        alive = live_rows(connection)
    groups = worth_it(parts, alive)
    if dry_run:
        return _sum_of(groups, alive)
    done: list[list[PartRow]] = []
    unreadable: list[str] = []
    for number, group in enumerate(groups):
        progress(number, len(groups))
        done.append(_replace(engine, lease_token, storage, group, alive, unreadable))
    return replace(_sum_of(done, alive), unreadable=tuple(unreadable))


def _replace(
    engine: Engine,
    lease_token: int,
    storage: Storage,
    group: Sequence[PartRow],
    alive: Mapping[int, int],
    unreadable: list[str],
) -> list[PartRow]:
    """Make one part of a group. Gives those that it stands for; of the others, `unreadable` hears."""
    with reading(engine) as connection:
        uris = {part: [video.uri for video in live_videos(connection, part.part_id)] for part in group}
    uris = {part: named for part, named in uris.items() if named}  # another job may have taken the last one since
    copied: dict[PartRow, CopiedRows] = {}
    for part, named in uris.items():
        try:
            copied[part] = copy_rows(storage, Copied(part.name, part.sha256, named))
        except OutputError as error:
            unreadable.append(str(error))
    if len(copied) < 2 and not any(_half_dead(part, alive) for part in copied):
        return []  # what is left would be the same again
    replace_parts(engine, lease_token, write_rows(storage, list(copied.values())), {part: uris[part] for part in copied})
    return list(copied)


def _sum_of(groups: Sequence[Sequence[PartRow]], alive: Mapping[int, int]) -> Compacted:
    replaced = [part for group in groups for part in group]
    return Compacted(len(replaced), sum(bool(group) for group in groups), sum(alive[part.part_id] for part in replaced))


def worth_it(parts: Sequence[PartRow], alive: Mapping[int, int]) -> list[list[PartRow]]:
    """The parts to make one of, each time. `alive` are the rows of each part id that are live."""
    candidates = defaultdict(list)
    for part in parts:
        if alive[part.part_id] < SMALL_ROWS or _half_dead(part, alive):
            candidates[part.recipe_id].append(part)
    groups = []
    for of_recipe in candidates.values():
        many = sum(alive[part.part_id] < SMALL_ROWS for part in of_recipe) >= FEWEST_PARTS
        for group in _filled(of_recipe, alive):
            if any(_half_dead(part, alive) for part in group) or (many and len(group) > 1):
                groups.append(group)
    return groups


def _filled(parts: Sequence[PartRow], alive: Mapping[int, int]) -> list[list[PartRow]]:
    """The parts, in their order, in groups of MOST_ROWS at most."""
    groups: list[list[PartRow]] = []
    rows = 0
    for part in parts:
        if not groups or rows + alive[part.part_id] > MOST_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += alive[part.part_id]
    return groups


def _half_dead(part: PartRow, alive: Mapping[int, int]) -> bool:
    return 2 * alive[part.part_id] < part.rows
