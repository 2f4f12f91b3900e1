"""`indexer similar`: the example is found in the index, or made from a file with the job's own recipe; the answer is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.config import Job
from indexer.console import printable
from indexer.errors import ConfigError, SourceError, VideoSkip
from indexer.records import Failure, IndexedRange, IndexedVideo, Skipped, Unit, Video
from indexer.search_view import covered, export_form, index_of, only_video, print_moments, uri_prefix, write_export
from indexer.views import complain, current_recipe, print_json

if TYPE_CHECKING:
    from indexer.search import SearchResult


def show_similar(
    span: str | None,
    path: Path,
    *,
    file: str | None,
    min_score: float,
    under: str | None,
    with_own: bool,
    limit: int | None,
    export: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """`indexer similar`. One of `span` and `file` is given."""
    from indexer.search.export import export_as
    from indexer.search.shards import Shards, shards_folder
    from indexer.search.similar import similar
    from indexer.search.span import parse_span
    from indexer.storage import open_storage

    if (span is None) == (file is None):
        raise ConfigError("give one example: URI@START-END for a part of an indexed video, or --file FILE")
    export, limit = export_form(export, output, limit, force=force, as_json=as_json)
    asked = None if span is None else parse_span(span)
    job, engine = index_of(path)
    recipe = current_recipe(job, engine)
    example = asked._replace(uri=only_video(asked.uri, path)) if asked else embeddings_of(str(file), job)
    shards = Shards(open_storage(job.output.uri), shards_folder(job.output.uri), note=complain)
    prefix = None if under is None else uri_prefix(under)
    began = time.perf_counter()
    found = similar(
        engine,
        shards,
        example,
        recipe,
        name=span or str(file),
        min_score=min_score,
        under=prefix,
        with_own=with_own,
        limit=limit,
    )
    took_ms = (time.perf_counter() - began) * 1000
    if as_json:
        print_json(found.as_document())
        return
    if export is not None:
        write_export(export_as(export, found), output)
    elif found.moments:
        print_moments(found, decimals=4)  # some models give unlike things a cosine of 0.99
    complain(f"{_summary(found)}; {took_ms:.0f} ms")
    complain(covered(found.coverage))


def embeddings_of(file: str, job: Job) -> NDArray[np.float16]:
    """The embeddings [n, width] of the segments of a video, made in this process as a run of the job would make them.

    Raises SourceError if the video cannot be used; WeightsError, ConfigError.
    """
    from indexer.execute import make_executor
    from indexer.storage.source import absolute, examine_each

    try:
        uri = absolute(os.getcwd(), file)  # noqa: PTH109
    except ValueError as error:
        raise ConfigError(f"--file: {printable(file)} {error}") from None
    # A run does not follow links, lest it index a video twice; this is no reason here.
    (listed,) = examine_each([os.path.realpath(uri) if os.path.islink(uri) else uri])  # noqa: PTH114
    if not isinstance(listed, Video):
        raise _unusable(file, listed)
    complain(f"loading {job.model.name} ...")
    executor = make_executor(job, local=True)
    try:
        executor.start()
        outcomes = executor.process([Unit((listed,))], _KeepsNothing(), stopped=lambda: False)
        (outcome,) = (outcome for outcome in outcomes if outcome is not None)
    finally:
        executor.close()
    if not isinstance(outcome, IndexedVideo):
        raise _unusable(file, outcome)
    return np.stack([segment.embedding for segment in outcome.segments])


class _KeepsNothing:
    """See `execute.ranges.Staging`: an example is not worth to be kept."""

    def load(self, video: Video) -> Iterable[IndexedRange]:
        return ()

    def save(self, finished: IndexedRange) -> None:
        pass


def _unusable(file: str, outcome: Failure | Skipped) -> SourceError:
    why = VideoSkip.REASONS[outcome.reason] if isinstance(outcome, Skipped) else outcome.message
    return SourceError(f"--file: {printable(file)} cannot be compared: {why}")


def _summary(found: SearchResult) -> str:
    given = len(found.moments)
    if found.total is None:
        return f"nearest {given:,} moment{'' if given == 1 else 's'} shown, of more that were not counted"
    counted = f"{found.total:,} moment{'' if found.total == 1 else 's'}"
    return counted + (f", nearest {given:,} shown" if given < found.total else "")
