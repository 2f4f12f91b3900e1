"""The index of a job, opened for reading: what a program asks with, and what the commands are made of.

    from indexer import Index

    with Index.open("jobs/archive.yaml") as index:
        moments = index.search("arm wrestling", min_score=0.3)
        moments[0].uri, moments[0].start_seconds, moments[0].score
        moments.to_pandas()                                     one row for each moment
        moments.embeddings()                                    [moments, width]
        index.similar(moments[0])                               what looks like the best one

Nothing here writes to the index. What goes wrong is a subclass of `errors.StopRun`, with a sentence that says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args, overload

from sqlalchemy import Engine

from indexer.catalog import lookup
from indexer.catalog.connect import open_catalog, reading
from indexer.catalog.refusals import shown
from indexer.config import Job, load_job
from indexer.console import printable
from indexer.errors import ConfigError, QueryError, WeightsError
from indexer.recipe import make_recipe
from indexer.search import Moment, SearchResult, Sort, search
from indexer.search.semantic import SentenceModel, sentence_model
from indexer.search.span import Span, parse_span
from indexer.search.videos import uris_named
from indexer.storage import open_storage
from indexer.storage.address import is_s3

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from indexer.search.shards import Shards

__all__ = ["Index", "Moment", "Moments", "current_recipe", "index_of", "only_video", "open_index", "uri_prefix"]

_OFFERED = 5
"""Videos that are named where a name means several."""


class Index:
    """What a job has indexed. Use it in a `with` block, or `close` it."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        *,
        semantic: SentenceModel | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.job = job
        self._engine = engine
        self._semantic = semantic
        self._note = note
        self._recipe = current_recipe(job, engine)
        self._shards: Shards | None = None

    @classmethod
    def open(
        cls,
        job: str | os.PathLike[str],
        *,
        semantic: str | os.PathLike[str] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """The index of the job file `job`, read-only. Runs may go on meanwhile: each answer shows one state of the index.

        `semantic` is the folder of a sentence-embedding model, asked about words that nothing else knows; without it that in
        INDEXER_SEMANTIC. `note` hears of work that takes a while. Raises ConfigError if there is no index yet, or the job
        file is wrong; DatabaseError.
        """
        return cls(*index_of(Path(job)), semantic=sentence_model(semantic), note=note)

    def search(
        self, words: str, *, min_score: float = 0.0, under: str | None = None, sort: Sort = "best", limit: int = 20
    ) -> Moments:
        """The first `limit` moments of an action, as `indexer search` finds them; `words` may be all of its query language.

        `min_score` is 0 to 1. `under` is a folder, or what paths begin with. `sort` is best, newest or video. Raises
        QueryError, a ConfigError, if the words cannot be read, or mean no label: `candidates` are then those perhaps meant.
        """
        _check(min_score, limit)
        if sort not in get_args(Sort):
            raise ConfigError(f"sort: {sort!r} is not known; allowed: {', '.join(get_args(Sort))}")
        prefix = None if under is None else uri_prefix(under)
        found = search(
            self._engine,
            words,
            self._recipe,
            min_score=min_score,
            under=prefix,
            sort=sort,
            limit=limit,
            semantic=self._semantic,
        )
        if complaint := found.complaint:
            raise QueryError(words, max(0, words.find(found.unknown or "")), complaint, found.candidates)
        return Moments(self, found)

    def similar(
        self,
        example: str | Moment | NDArray[Any],
        *,
        min_score: float = 0.0,
        under: str | None = None,
        with_own: bool = False,
        limit: int = 20,
        exact: bool = False,
    ) -> Moments:
        """The `limit` moments that look most like `example`, nearest first; their score is the cosine.

        An example is a part of an indexed video, as a Moment or as URI@START-END, or a matrix [n, width] of embeddings,
        such as `embed` and `Moments.embeddings` give. Its own segments are left out, unless `with_own`. Of many millions of
        segments only those that are probably near are compared, if faiss is installed, unless `exact`.
        Raises ConfigError if there is nothing to compare with, OutputError if a part cannot be read.
        """
        from indexer.search.similar import similar  # half a second: pyarrow

        _check(min_score, limit)
        asked: Span | NDArray[Any]
        if isinstance(example, str):
            span = parse_span(example)
            name, asked = example, span._replace(uri=only_video(self._engine, span.uri))
        elif isinstance(example, Moment):
            asked = Span(example.uri, example.start_seconds, example.end_seconds)
            name = f"{example.uri}@{example.start_seconds:g}-{example.end_seconds:g}"
        else:
            name, asked = "embeddings", example
        found = similar(
            self._engine,
            self._opened_shards,
            asked,
            self._recipe,
            name=name,
            min_score=min_score,
            under=None if under is None else uri_prefix(under),
            with_own=with_own,
            limit=limit,
            exact=exact,
        )
        return Moments(self, found)

    def embed(self, file: str | os.PathLike[str]) -> NDArray[np.float16]:
        """The embeddings [segments, width] of a video of your own, made here with the job's model; not normalised.

        Raises SourceError if it cannot be used, WeightsError.
        """
        from indexer.example import embeddings_of

        return embeddings_of(os.fspath(file), self.job, note=self._note)

    def close(self) -> None:
        """Give back the connections to the catalog."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _opened_shards(self) -> Shards:
        from indexer.search.shards import Shards, shards_folder

        if self._shards is None:
            output = self.job.output.uri
            self._shards = Shards(open_storage(output), shards_folder(output), note=self._note)
        return self._shards


class Moments(Sequence[Moment]):
    """The moments of an answer, in the order asked for. A slice of it is one, too."""

    def __init__(self, index: Index, result: SearchResult) -> None:
        self._index = index
        self.result = result
        """All of the answer: what was searched, how many moments there are in all, how much of the archive is indexed."""

    def to_pandas(self) -> pd.DataFrame:
        """One row for each moment: uri, label, start_seconds, end_seconds, score, mean_score, segments.

        Raises ConfigError if pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise ConfigError("to_pandas needs the package pandas: pip install pandas") from None

        return pd.DataFrame(list(self), columns=list(Moment._fields))

    def embeddings(self) -> NDArray[np.float32]:
        """[moments, width], of length 1: the mean direction of each moment's segments; [0, 0] if there are no moments.

        The dot product of two rows is the cosine that `similar` scores with. Raises ConfigError if a video has no results
        of the job's own recipe (any more): embeddings of two models cannot be compared. OutputError.
        """
        from indexer.search.vectors import mean_directions

        spans = [Span(moment.uri, moment.start_seconds, moment.end_seconds) for moment in self]
        return mean_directions(self._index._engine, self._index._opened_shards, spans, self._index._recipe)

    @overload
    def __getitem__(self, at: int) -> Moment: ...
    @overload
    def __getitem__(self, at: slice) -> Moments: ...
    def __getitem__(self, at: int | slice) -> Moment | Moments:
        if isinstance(at, slice):
            return Moments(self._index, replace(self.result, moments=self.result.moments[at]))
        return self.result.moments[at]

    def __len__(self) -> int:
        return len(self.result.moments)

    def __repr__(self) -> str:
        total = "more" if self.result.total is None else f"{self.result.total:,}"
        return f"<{len(self):,} of {total} moments for {self.result.query!r}>"


def _check(min_score: float, limit: int) -> None:
    if not 0 <= min_score <= 1:
        raise ConfigError(f"min_score: {min_score} is no score; give 0 to 1")
    if limit < 1:
        raise ConfigError(f"limit: {limit} moments cannot be shown; give 1 or more")


def open_index(job: Job) -> Engine | None:
    """The job's catalog for reading; None if there is none yet."""
    return open_catalog(job.output.catalog, create=False, read_only=True)


def index_of(path: Path) -> tuple[Job, Engine]:
    """The job, and its catalog for reading. Raises ConfigError if there is none yet."""
    job = load_job(path)
    engine = open_index(job)
    if engine is None:
        raise ConfigError(f"there is no index yet: {shown(job.output.catalog)} does not exist. First: indexer run {path}")
    return job, engine


def current_recipe(job: Job, engine: Engine) -> str | None:
    """The digest of the job's recipe. Without its weights, that of its last run: an index outlives its model."""
    try:
        return make_recipe(job).digest
    except WeightsError:
        return next((past.recipe_digest for past in lookup.runs(engine, 1, job=job.name)), None)


def uri_prefix(prefix: str) -> str:
    """What uris begin with: paths are absolute there, and a folder means what is in it. An s3:// prefix is one already."""
    if is_s3(prefix):
        return prefix
    path = os.path.abspath(prefix)  # noqa: PTH100  uris keep the links that they were listed with
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"under: {printable(prefix)} is not UTF-8; give the folder above it") from None
    return f"{path}/" if prefix.endswith("/") or Path(path).is_dir() else path


def only_video(engine: Engine, name: str) -> str:
    """The uri of the one video of the index that has this name, or this end of a path. Raises ConfigError."""
    with reading(engine) as connection:
        uris = uris_named(connection, name, limit=_OFFERED + 1)
    if len(uris) == 1:
        return uris[0]
    if name in uris:
        return name
    if not uris:
        raise ConfigError(f"no video of the index is called {name!r}")
    more = ", ..." if len(uris) > _OFFERED else ""
    raise ConfigError(f"{name!r} may be any of {', '.join(map(printable, uris[:_OFFERED]))}{more}; write more of its path")
