"""Compaction: small parts, and parts whose rows are mostly dead, become few and whole ones.

    rows of live videos -> one new part, durable -> ONE transaction: it is named instead of the old ones, which retire

A part is read by everybody who searches for embeddings, or scans the index with another tool: thousands of small ones cost
more than their bytes. Killed before the transaction, an unknown part is left; after it, retired ones: `sweep` deletes both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.catalog.parts import PartRow, list_parts, live_rows, live_videos, replace_parts
from indexer.storage import Storage
from indexer.write.rewrite import Copied, rewrite

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


def compact(
    engine: Engine, lease_token: int, storage: Storage, *, dry_run: bool, progress: Callable[[int, int], None]
) -> Compacted:
    """Replace the parts that are worth it. Raises OutputError; what was replaced before stays so."""
    with reading(engine) as connection:
        parts = [part for part in list_parts(connection) if part.state == "live"]
        alive = live_rows(connection)
    groups = worth_it(parts, alive)
    for number, group in enumerate(groups if not dry_run else ()):
        progress(number, len(groups))
        with reading(engine) as connection:
            uris = {part: [video.uri for video in live_videos(connection, part.part_id)] for part in group}
        uris = {part: named for part, named in uris.items() if named}  # another job may have taken the last one since
        if uris:
            new = rewrite(storage, [Copied(part.name, part.sha256, named) for part, named in uris.items()])
            replace_parts(engine, lease_token, new, uris)
    replaced = [part for group in groups for part in group]
    return Compacted(len(replaced), len(groups), sum(alive[part.part_id] for part in replaced))


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
    """The parts in groups of MOST_ROWS at most: none but the last has fewer than SMALL_ROWS, as none of the parts has many."""
    groups: list[list[PartRow]] = []
    rows = MOST_ROWS
    for part in parts:
        if rows + alive[part.part_id] > MOST_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += alive[part.part_id]
    return groups


def _half_dead(part: PartRow, alive: Mapping[int, int]) -> bool:
    return 2 * alive[part.part_id] < part.rows
