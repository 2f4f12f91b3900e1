"""`indexer search` and `indexer clip`: what was asked for is found, shown, exported, cut."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from indexer.console import clock, printable
from indexer.errors import ConfigError, OutputError, SourceError, VideoError, VideoSkip
from indexer.index import current_recipe, index_of, only_video, uri_prefix
from indexer.records import Video
from indexer.storage.address import is_s3
from indexer.views import complain, make_table, out, print_json

if TYPE_CHECKING:
    from indexer.search import Coverage, SearchResult, Sort
    from indexer.storage.fetch import VideoFile

SHOWN, EXPORTED = 20, 999
"""Moments without --limit: on a screen, and for other programs (as many as an EDL holds)."""


def show_search(
    words: str,
    path: Path,
    *,
    min_score: float,
    under: str | None,
    sort: Sort,
    semantic: str | None,
    limit: int | None,
    export: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """`indexer search`. Gives the exit code: 2 for words that mean no label."""
    from indexer.search import search
    from indexer.search.export import export_as
    from indexer.search.semantic import sentence_model

    export, limit = export_form(export, output, limit, force=force, as_json=as_json)
    job, engine = index_of(path)
    began = time.perf_counter()
    prefix = None if under is None else uri_prefix(under)
    found = search(
        engine,
        words,
        current_recipe(job, engine),
        min_score=min_score,
        under=prefix,
        sort=sort,
        limit=limit,
        semantic=sentence_model(semantic),
    )
    took_ms = (time.perf_counter() - began) * 1000
    if as_json:
        print_json(found.as_document())
    elif found.labels and export is not None:
        write_export(export_as(export, found, start_timecodes(export, found)), output)
    elif found.moments:
        print_moments(found)
    if found.labels and not as_json:
        complain(f"{_summary(found, sort)}; {took_ms:.0f} ms")
    elif not as_json:
        complain(str(found.complaint))
    if not as_json:
        complain(covered(found.coverage))
    return 0 if found.labels else 2


def cut_clip(span: str, target: Path, *, path: Path | None, copy: bool, force: bool, as_json: bool) -> None:
    """`indexer clip`. `path` is that of a job, in whose index the video may be named by the end of its uri."""
    from indexer.decode.cut import cut
    from indexer.search.span import parse_span

    wanted = parse_span(span)
    uri = wanted.uri if path is None else only_video(index_of(path)[1], wanted.uri)
    if "://" not in uri:
        uri = os.path.abspath(uri)  # noqa: PTH100  as uris are: with the links that it is reached by
    elif not is_s3(uri):
        raise ConfigError(f"{uri}: a clip is cut out of a local file, or of one in S3")
    try:
        with _opened(uri) as source:
            check_target(target, force=force, source=source if isinstance(source, str) else None)
            done = cut(source, target, wanted.start_seconds, wanted.end_seconds, copy=copy)
    except (VideoError, VideoSkip) as error:
        raise SourceError(f"{printable(uri)} {error}") from error
    if as_json:
        document = {"uri": uri, "start_seconds": done.start_seconds, "end_seconds": done.end_seconds, "copied": done.copied}
        print_json(document | {"file": str(target)})
        return
    how = "copied as it is" if done.copied else "encoded anew"
    times = " to ".join(clock(seconds, milliseconds=True) for seconds in (done.start_seconds, done.end_seconds))
    complain(f"{target}: {times} of {printable(uri)}, {how}")


def export_form(
    export: str | None, output: Path | None, limit: int | None, *, force: bool, as_json: bool
) -> tuple[str | None, int]:
    """The format to export in, if any, and how many moments to show. Raises ConfigError for what cannot be had together."""
    from indexer.search.edl import MOST_EVENTS
    from indexer.search.export import FORMATS

    if export is None and output is not None:
        export = output.suffix.lstrip(".")
    if export is not None and (as_json or export not in FORMATS):
        raise ConfigError(f"--export: choose one of {', '.join(FORMATS)}" + ("; or --json, not both" if as_json else ""))
    limit = limit or (SHOWN if export is None else EXPORTED)
    if export == "edl" and limit > MOST_EVENTS:
        raise ConfigError(f"an EDL holds {MOST_EVENTS} events: give --limit {MOST_EVENTS}, or less")
    if output is not None:
        check_target(output, force=force)
    return export, limit


@contextmanager
def _opened(uri: str) -> Iterator[str | VideoFile]:
    """The path of a local video, or the bytes of one in S3, of which only what is needed is fetched."""
    from indexer.storage.fetch import video_file
    from indexer.storage.scan import local_path
    from indexer.storage.source import examine_each

    if is_s3(uri):
        video = next(iter(examine_each([uri])))
        if not isinstance(video, Video):
            raise SourceError(f"{uri}: {getattr(video, 'message', 'cannot be read')}")
        with video_file(video) as (_, file):
            yield file
        return
    path = local_path(uri) if _is_text(uri) else uri
    if not os.path.exists(path):  # noqa: PTH110  a str path may hold bytes that are not UTF-8
        raise SourceError(f"{printable(uri)} does not exist")
    yield path


def _is_text(path: str) -> bool:
    """Whether it is UTF-8: Python keeps other bytes of a path as half characters."""
    return path.encode(errors="ignore").decode() == path


def check_target(target: Path, *, force: bool, source: str | None = None) -> None:
    if str(target) == "-" and source is None:
        return
    if source is not None and target.exists() and target.samefile(source):
        raise ConfigError(f"{target} is the video itself, which is never written to; choose another name")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; choose another name, or replace it with --force")


def write_export(text: str, output: Path | None) -> None:
    if output is None or str(output) == "-":
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error


def start_timecodes(export: str, found: SearchResult) -> dict[str, str]:
    """Of the local videos of an answer, those of the first frames, if the format wants them."""
    from indexer.decode.timecode import start_timecode
    from indexer.search.export import TIMED
    from indexer.storage.scan import local_path

    paths = [uri for uri in found.videos if not is_s3(uri)] if export in TIMED else []
    return {uri: timecode for uri in paths if (timecode := start_timecode(local_path(uri)))}


def print_moments(found: SearchResult, *, decimals: int = 2) -> None:
    table = make_table("from", "to", "score", "label", "video")
    for moment in found.moments:
        times = (clock(moment.start_seconds), clock(moment.end_seconds))
        table.add_row(*times, f"{moment.score:.{decimals}f}", *(Text(printable(text)) for text in (moment.label, moment.uri)))
    out().print(table)


def _summary(found: SearchResult, sort: Sort) -> str:
    names = ", ".join(repr(label) for label, _ in found.labels)
    first = {"best": "best", "newest": "newest", "video": "first"}[sort]
    given = len(found.moments)
    if found.total is None:
        counted = f"more than {given:,} moments of {names}, at most {found.at_most:,}, {first} {given:,} shown"
    else:
        counted = f"{found.total:,} moment{'' if found.total == 1 else 's'} of {names}"
        counted += f", {first} {given:,} shown" if given < found.total else ""
    if found.candidates:
        counted += f" (perhaps also meant: {', '.join(repr(name) for name in found.candidates)})"
    return counted


def covered(coverage: Coverage) -> str:
    rest = [(coverage.failed, "failed"), (coverage.pending, "not indexed yet")]
    parts = [f"{coverage.indexed:,} of {coverage.videos:,} videos are indexed", *(f"{n:,} {what}" for n, what in rest if n)]
    return ", ".join(parts)
