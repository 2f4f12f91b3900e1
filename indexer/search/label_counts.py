"""How often each label was seen, from counts that are kept with the hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Connection, text

from indexer.search.recipes import SearchedRecipe

_COUNTS = text("SELECT label_id, sum(n) AS n FROM label_stat WHERE recipe_id = :recipe_id GROUP BY label_id")


def label_counts(connection: Connection, recipes: Iterable[SearchedRecipe]) -> list[tuple[str, int]]:
    """The labels that were seen anywhere in the results of these recipes, with their segments, the commonest first."""
    counts: Counter[str] = Counter()
    for recipe in recipes:
        names = {label_id: name for name, label_id in recipe.label_ids.items()}
        for row in connection.execute(_COUNTS, {"recipe_id": recipe.recipe_id}):
            counts[names[row.label_id]] += int(row.n)
    return sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
