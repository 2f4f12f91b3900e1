"""Whose results are searched. Which recipe's results stand for a video is decided here.

A video shows the results of the job's own recipe if it has any. If not, it shows those that were committed last under any
other recipe: after a change of the model, the old results stay searchable until the new ones are there. The two never mix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, text

from indexer.errors import ConfigError

_RECIPES = text(
    "SELECT id, document, label_set, digest = :digest AS own FROM recipe WHERE digest = :digest"
    " OR EXISTS (SELECT 1 FROM part WHERE part.recipe_id = recipe.id AND part.state = 'live') ORDER BY id"
)
_READ = "indexer.recipes"
"""In the notes of a connection of the pool."""
_LABELS = text("SELECT name, id FROM label WHERE label_set = :label_set")


@dataclass(frozen=True, slots=True)
class SearchedRecipe:
    """A recipe with results that may be shown."""

    recipe_id: int
    own: bool
    """The recipe of the job that is asked about."""
    model: str
    segment_ms: int
    """Length of a segment; the last one of a video is shorter."""
    label_ids: Mapping[str, int]


def searched_recipes(connection: Connection, digest: str | None, model: str | None) -> list[SearchedRecipe]:
    """The recipe with this digest, and the others that have results. Raises ConfigError if none of them is of this model."""
    rows = connection.execute(_RECIPES, {"digest": digest or ""}).all()
    recipes = [_recipe(connection, row.id, bool(row.own), row.document, row.label_set) for row in rows]
    if model is None or not recipes:
        return recipes
    of_model = [recipe for recipe in recipes if recipe.model == model]
    if not of_model:
        there = ", ".join(sorted({recipe.model for recipe in recipes}))
        raise ConfigError(f"model: nothing is indexed with {model!r}; there are results of {there}")
    return of_model


def _recipe(connection: Connection, recipe_id: int, own: bool, document: str, label_set: str) -> SearchedRecipe:
    """A recipe and its labels never change: one that this connection has read once is not read again."""
    read: dict[tuple[int, bool, str, str], SearchedRecipe] = connection.info.setdefault(_READ, {})
    key = (recipe_id, own, document, label_set)
    if key not in read:
        settings = json.loads(document)
        labels = connection.execute(_LABELS, {"label_set": label_set}).all()
        read[key] = SearchedRecipe(
            recipe_id=recipe_id,
            own=own,
            model=settings["model"]["name"],
            segment_ms=round(1000 * settings["sampling"]["segment"]),
            label_ids=dict(map(tuple, labels)),
        )
    return read[key]


class Standing(NamedTuple):
    """What stands for one video."""

    recipe: SearchedRecipe
    segments: int
    """How many rows there are."""


def standing_results(
    connection: Connection, recipes: Sequence[SearchedRecipe], video_ids: Sequence[int]
) -> dict[int, Standing]:
    """Video id -> the results that stand for it; videos without results are left out."""
    by_id = {recipe.recipe_id: recipe for recipe in recipes}
    videos, of = (", ".join(map(str, numbers)) or "NULL" for numbers in (video_ids, by_id))  # of our own
    rows = connection.exec_driver_sql(
        "SELECT video_id, recipe_id, part_id, segments FROM result"
        f" WHERE video_id IN ({videos}) AND recipe_id IN ({of}) AND part_id IS NOT NULL"
    ).all()
    # The own recipe wins, else the later commit, which has the higher part: the last one entered stays.
    if len(recipes) > 1:
        rows = sorted(rows, key=lambda row: (by_id[row.recipe_id].own, row.part_id))
    return {video_id: Standing(by_id[recipe_id], segments) for video_id, recipe_id, _, segments in rows}
