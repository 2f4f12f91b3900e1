"""`indexer similar`: the example is found in the index, or made from a file with the job's own recipe; the answer is shown."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from indexer.errors import ConfigError
from indexer.index import Index
from indexer.search import SearchResult
from indexer.search_view import covered, export_form, print_moments, start_timecodes, write_export
from indexer.views import complain, print_json


def show_similar(
    span: str | None,
    path: Path,
    *,
    file: str | None,
    min_score: float,
    under: str | None,
    with_own: bool,
    limit: int | None,
    exact: bool,
    export: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """`indexer similar`. One of `span` and `file` is given."""
    from indexer.search.export import export_as

    if (span is None) == (file is None):
        raise ConfigError("give one example: URI@START-END for a part of an indexed video, or --file FILE")
    export, limit = export_form(export, output, limit, force=force, as_json=as_json)
    with Index.open(path, note=complain) as index:
        example = span or index.embed(str(file))
        began = time.perf_counter()
        answer = index.similar(example, min_score=min_score, under=under, with_own=with_own, limit=limit, exact=exact)
    found = replace(answer.result, query=span or str(file))
    took_ms = (time.perf_counter() - began) * 1000
    if as_json:
        print_json(found.as_document())
        return
    if export is not None:
        write_export(export_as(export, found, start_timecodes(export, found)), output)
    elif found.moments:
        print_moments(found, decimals=4)  # some models give unlike things a cosine of 0.99
    complain(f"{_summary(found)}; {took_ms:.0f} ms")
    complain(covered(found.coverage))


def _summary(found: SearchResult) -> str:
    given = len(found.moments)
    if not found.exact:
        return f"nearest {given:,} moments of {found.compared:,} segments that are probably near; --exact compares all"
    if found.total is None:
        return f"nearest {given:,} moment{'' if given == 1 else 's'} shown, of more that were not counted"
    counted = f"{found.total:,} moment{'' if found.total == 1 else 's'}"
    return counted + (f", nearest {given:,} shown" if given < found.total else "")
