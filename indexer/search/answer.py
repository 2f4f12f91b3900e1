"""One query, one answer: the moments, what was searched for them, and how much of the archive was there to be searched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from indexer.catalog.connect import reading
from indexer.errors import ConfigError, QueryError
from indexer.search.coverage import Coverage, coverage
from indexer.search.find import Finder, Question
from indexer.search.label_counts import label_counts
from indexer.search.moments import Moment
from indexer.search.parse import parse
from indexer.search.query import Action, Limit
from indexer.search.recipes import searched_recipes
from indexer.search.resolve import CANDIDATES, Resolution, resolve, resolve_name
from indexer.search.semantic import SentenceModel
from indexer.search.videos import FoundVideo, Sort, VideoFilter


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one query. Without `labels` nothing was searched, and `candidates` are names that were perhaps meant."""

    query: str
    labels: tuple[tuple[str, float], ...]
    """Label and weight, 1 for what fits the words best. Weights do not change scores."""
    candidates: tuple[str, ...]
    """Other labels that were perhaps meant."""
    unknown: str | None
    """The words, or the name, for which there is no label; None if all were understood."""
    moments: tuple[Moment, ...]
    """In the order asked for."""
    total: int | None
    """How many moments there are. None: more than those given, and not counted, as the labels are very common."""
    coverage: Coverage
    videos: dict[str, FoundVideo]
    """By uri: the videos of the moments."""
    at_most: int | None = None
    """Where they were not counted: so many segments were given the rarer action, and every moment has one of them."""
    exact: bool = True
    """False: of very many segments only those that are probably near the example were compared, and some may be missed."""
    compared: int | None = None
    """Segments that an example was compared with; None in an answer to words."""
    commonest: tuple[str, ...] = ()
    """Where words mean nothing and no label is near: some that were seen most often."""

    @property
    def complaint(self) -> str | None:
        """A sentence that says why nothing was searched; None if all was understood."""
        if self.unknown is None:
            return None
        offered = ", ".join(repr(name) for name in self.candidates or self.commonest)
        if self.candidates:
            return f"no label is called {self.unknown!r}; nearest: {offered}"
        found = f"commonest in this index: {offered}" if offered else "this index has none yet"
        return f"no label is called {self.unknown!r}, nor anything like it; {found}"

    def as_document(self) -> dict[str, Any]:
        """For JSON: what `search --json` prints."""
        return {
            "query": self.query,
            "labels": [{"label": label, "weight": round(weight, 3)} for label, weight in self.labels],
            "candidates": list(self.candidates),
            "unknown": self.unknown,
            "commonest": list(self.commonest),
            "moments": [
                {
                    "uri": moment.uri,
                    "label": moment.label,
                    "start_seconds": moment.start_seconds,
                    "end_seconds": moment.end_seconds,
                    "score": moment.score,
                    "segments": moment.segments,
                }
                for moment in self.moments
            ],
            "total": self.total,
            "total_at_most": self.at_most if self.total is None else self.total,
            **({} if self.compared is None else {"compared": self.compared, "exact": self.exact}),
            "coverage": self.coverage.as_document(),
        }


def search(
    engine: Engine,
    query: str,
    recipe_digest: str | None,
    *,
    min_score: float = 0.0,
    under: str | None = None,
    sort: Sort = "best",
    limit: int = 20,
    semantic: SentenceModel | None = None,
) -> SearchResult:
    """The first `limit` moments, at least one, that answer `query`, in the results of this recipe.

    A video that has no results under it (yet) shows those of the recipe that it was indexed with last. `min_score` is 0 to 1;
    like score: in the query, it also shapes the moments, as segments below it do not count. `under` is what the uri begins
    with. `semantic` is asked about words that nothing else knows. Raises QueryError if the query cannot be read, names a model
    that there are no results of, or one action twice.
    """
    asked = parse(query)
    with reading(engine, first_rows=True) as connection:
        try:
            recipes = searched_recipes(connection, recipe_digest, asked.model)
        except ConfigError as error:  # the model of the query
            raise QueryError(query, asked.positions["model"], str(error)) from None
        covered = coverage(connection, recipes)
        names = sorted({name for recipe in recipes for name in recipe.label_ids})
        action = _meanings(asked.action, names, semantic)
        second = _meanings(asked.near.action, names, semantic) if asked.near else []
        left_out = [resolve_name(label, names) for label in asked.without]
        if lost := next((meaning for meaning in (*action, *second, *left_out) if not meaning.labels), None):
            common = () if lost.candidates else tuple(name for name, _ in label_counts(connection, recipes)[:CANDIDATES])
            return SearchResult(query, (), lost.candidates, lost.words, (), 0, covered, {}, commonest=common)
        question = Question(
            action=_labels(action),
            near=tuple(label for label in _labels(second) if label not in _labels(action)),
            near_ms=asked.near.milliseconds if asked.near else 0,
            without=_labels(left_out),
            score=(*asked.score, Limit(">=", min_score)),
            dur=asked.dur,
        )
        if asked.near and not question.near:
            problem = f"near: both actions mean {', '.join(question.action)}; ask for two that differ"
            raise QueryError(query, asked.positions["near"], problem)
        videos = VideoFilter(under=under, path=asked.path, after=asked.after, before=asked.before)
        finder = Finder(connection, recipes, videos, question, indexed=covered.indexed)
        found, total = finder.find(sort, limit)
    searched = {label: weight for meaning in (*second, *action) for label, weight in meaning.labels}
    offered = [label for meaning in (*action, *second) for label in meaning.candidates if label not in searched]
    return SearchResult(
        query=query,
        labels=tuple((label, searched[label]) for label in (*question.action, *question.near)),
        candidates=tuple(dict.fromkeys(offered)),
        unknown=None,
        moments=tuple(moment for moment, _ in found),
        total=total,
        coverage=covered,
        videos={video.uri: video for _, video in found},
        at_most=finder.hits if total is None else None,
    )


def _meanings(action: Action, names: Sequence[str], semantic: SentenceModel | None) -> list[Resolution]:
    of_words = [resolve(" ".join(action.words), names, semantic)] if action.words else []
    return of_words + [resolve_name(label, names) for label in action.labels]


def _labels(meanings: Iterable[Resolution]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for meaning in meanings for label, _ in meaning.labels))
