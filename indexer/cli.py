"""The command line: argv -> one call -> exit code. No logic; everything heavy is imported inside the command that needs it.

Data goes to stdout, everything else to stderr. A StopRun becomes its sentence and its exit code.
"""

from __future__ import annotations

import atexit
import gc
import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from indexer.cli_options import Force, JobFile, JobOption, Json
from indexer.cli_upkeep import upkeep

app = typer.Typer(
    name="indexer",
    help="Find actions in large video archives: index a folder of videos once, then search it for what people do in it.",
    epilog='indexer run jobs/archive.yaml   then   indexer search "arm wrestling" --job jobs/archive.yaml',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sort = Literal["best", "newest", "video"]


def _version(wanted: bool) -> None:
    if wanted:
        from indexer import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def run(
    job: JobFile,
    local: Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")] = False,
    limit: Annotated[Optional[int], typer.Option(min=1, metavar="N", help="Index at most N videos now.")] = None,  # noqa: UP045
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try videos again that failed before.")] = False,
    deadline: Annotated[Optional[str], typer.Option(metavar="T", help="Begin nothing new after T (06:00).")] = None,  # noqa: UP045
    as_json: Json = False,
) -> None:
    """Index what is new or changed. The same command goes on after a stop, and is what to run every night."""
    from indexer.session import run_job

    raise typer.Exit(run_job(job, local=local, limit=limit, retry_failed=retry_failed, deadline=deadline, as_json=as_json))


@app.command()
def plan(
    job: JobFile,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="As for run.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a run would do. Writes nothing."""
    from indexer import views

    views.show_plan(job, retry_failed=retry_failed, as_json=as_json)


@app.command()
def status(
    job: JobFile,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    max_age: Annotated[Optional[str], typer.Option(metavar="T", help="Exit 4 if no run ended well for T (36h).")] = None,  # noqa: UP045
    as_json: Json = False,
) -> None:
    """Show what is indexed, and the last runs."""
    from indexer import status_view

    raise typer.Exit(status_view.show_status(job, watch=watch, max_age=max_age, as_json=as_json))


@app.command()
def failures(job: JobFile, as_json: Json = False) -> None:
    """List the videos that could not be indexed: why, and what to do."""
    from indexer import views

    views.show_failures(job, as_json=as_json)


@app.command()
def search(
    words: Annotated[str, typer.Argument(metavar="WORDS", help='An action, for example "arm wrestling"', show_default=False)],
    job: JobOption,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Only moments that score at least this.")] = 0.0,
    under: Annotated[Optional[str], typer.Option(metavar="PREFIX", help="Only videos whose path begins so.")] = None,  # noqa: UP045
    sort: Annotated[Sort, typer.Option(help="By score, by the date of the video, or by its path.")] = "best",
    semantic: Annotated[str | None, typer.Option(metavar="FOLDER", help="A sentence-embedding model to ask.")] = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="At most this many moments; 20, with --export 999.")] = None,  # noqa: UP045
    export: Annotated[Optional[str], typer.Option(metavar="FORMAT", help="csv, json, m3u, edl or otio.")] = None,  # noqa: UP045
    output: Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FILE", help="Where to export to.")] = None,  # noqa: UP045
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find the moments in which an action is seen, best first.

    Words may be narrowed down: 'drinking near:5s laughing -label:"drinking beer" path:/srv/2019/ after:2019-06 score:>0.5
    dur:>10s model:r3d_18'. label:"arm wrestling" is exactly that label.
    """
    from indexer import search_view

    code = search_view.show_search(
        words, job, min_score=min_score, under=under, sort=sort, semantic=semantic, limit=limit, export=export, output=output,
        force=force, as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def similar(
    job: JobOption,
    span: Annotated[Optional[str], typer.Argument(metavar="[URI@START-END]", help="Such as fair.mp4@12:30-12:50")] = None,  # noqa: UP045
    file: Annotated[Optional[str], typer.Option(metavar="FILE", help="Or a video of your own, indexed or not.")] = None,  # noqa: UP045
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Only moments that are at least this near.")] = 0.0,
    under: Annotated[Optional[str], typer.Option(metavar="PREFIX", help="Only videos whose path begins so.")] = None,  # noqa: UP045
    with_own: Annotated[bool, typer.Option("--with-own", help="Show the example itself, too.")] = False,
    limit: Annotated[Optional[int], typer.Option(min=1, help="At most this many moments; 20, with --export 999.")] = None,  # noqa: UP045
    exact: Annotated[bool, typer.Option("--exact", help="Compare all segments, however many there are.")] = False,
    export: Annotated[Optional[str], typer.Option(metavar="FORMAT", help="csv, json, m3u, edl or otio.")] = None,  # noqa: UP045
    output: Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FILE", help="Where to export to.")] = None,  # noqa: UP045
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find the moments that look most like an example, nearest first.

    The score is the cosine of the embeddings: 1 is the same. What is near depends on the model; look at the first answers.
    """
    from indexer import similar_view

    similar_view.show_similar(
        span, job, file=file, min_score=min_score, under=under, with_own=with_own, limit=limit, exact=exact, export=export,
        output=output, force=force, as_json=as_json,
    )  # fmt: skip


@app.command()
def clip(
    span: Annotated[str, typer.Argument(metavar="URI@START-END", help="Such as fair.mp4@12:30-12:50", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="An .mp4, .mov or .mkv.", show_default=False)],
    job: Annotated[Optional[Path], typer.Option(metavar="JOB", help="Take the end of a path from this job's index.")] = None,  # noqa: UP045
    copy: Annotated[bool, typer.Option("--copy", help="Begin at the key frame before, and lose no quality.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Cut a moment out of a video: exactly, and without loss where it begins and ends so that this is possible."""
    from indexer import search_view

    search_view.cut_clip(span, output, path=job, copy=copy, force=force, as_json=as_json)


@app.command()
def parts(
    job: JobFile,
    output: Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FILE", help="List live videos there.")] = None,  # noqa: UP045
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the Parquet files of the index, for other tools.

    What was indexed again, or is gone, stays in them for a while; -o writes down which videos are live in which file.
    """
    from indexer import parts_view

    parts_view.show_parts(job, output=output, force=force, as_json=as_json)


@app.command()
def serve(
    job: JobOption,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0: for everybody who knows the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    token: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TOKEN", envvar="INDEXER_TOKEN", help="What a visitor must know. Made and printed if --host needs one."
        ),
    ] = None,
    name: Annotated[Optional[list[str]], typer.Option(metavar="NAME", help="A name by which this server is reached.")] = None,  # noqa: UP045
    semantic: Annotated[str | None, typer.Option(metavar="FOLDER", help="A sentence-embedding model to ask.")] = None,
    as_json: Json = False,
) -> None:
    """Show the index as a search page, for a browser, and as JSON."""
    from indexer.serve.server import serve as run_server

    run_server(job, host=host, port=port, names=name or (), token=token, semantic=semantic, as_json=as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that a job can use, with their published accuracy."""
    from indexer import views

    views.show_models(as_json=as_json)


@app.command()
def schema(
    what: Annotated[str, typer.Argument(metavar="job|keys|part|catalog", help="What to describe.")] = "job",
    as_json: Json = False,
) -> None:
    """Print the schema of the job file (as JSON Schema, or its keys as Markdown), the Parquet parts, or the catalog (SQL)."""
    from indexer import views

    views.show_schema(what, as_json=as_json)


app.add_typer(upkeep)


def main() -> None:
    """Entry point of the console script."""
    from indexer.errors import StopRun

    # The interpreter's last collection finds nothing of use in all that was imported: after a run it takes half a second.
    atexit.register(gc.freeze)
    try:
        app()
    except StopRun as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
