"""The part of the command line that helps to begin, and to keep an index sound. See `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from indexer.cli_options import JobFile, JobOption, Json

upkeep = typer.Typer()

Scheduler = Literal["cron", "systemd", "kubernetes", "rayjob"]


@upkeep.command()
def check(
    job: JobFile,
    deep: Annotated[bool, typer.Option("--deep", help="Read every part, and compare each row with the catalog.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Let the next run make again what is damaged.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Repair also where most of the parts are missing.")] = False,
    as_json: Json = False,
) -> None:
    """Look whether every result has its part, and rows and counts agree. Exit code 4 if something is wrong."""
    from indexer import upkeep_view

    raise typer.Exit(upkeep_view.show_check(job, deep=deep, repair=repair, force=force, as_json=as_json))


@upkeep.command()
def gc(
    job: JobFile,
    grace: Annotated[str, typer.Option(metavar="T", help="Keep what is younger, such as 24h.")] = "24h",
    no_compact: Annotated[bool, typer.Option("--no-compact", help="Only delete; leave small parts as they are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete parts, too, that look like those of another catalog.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete files that are of no use any more, and make few parts of many small or half dead ones."""
    from indexer import upkeep_view

    compacting = not no_compact
    raise typer.Exit(
        upkeep_view.show_gc(job, grace=grace, compacting=compacting, dry_run=dry_run, force=force, as_json=as_json)
    )


@upkeep.command()
def rebuild(
    job: JobFile,
    force: Annotated[bool, typer.Option("--force", help="Replace a catalog that is sound, too.")] = False,
    as_json: Json = False,
) -> None:
    """Make a lost or damaged catalog anew, from the parts alone."""
    from indexer import upkeep_view

    raise typer.Exit(upkeep_view.show_rebuild(job, force=force, as_json=as_json))


@upkeep.command()
def forget(
    uri: Annotated[str, typer.Argument(metavar="URI", help="The video, as search shows it.", show_default=False)],
    job: JobOption,
    as_json: Json = False,
) -> None:
    """Delete all that the index holds of a video. A file that stays in the source is found again by the next run."""
    from indexer import upkeep_view

    upkeep_view.show_forget(uri, job, as_json=as_json)


@upkeep.command()
def init(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A folder, a manifest, or s3://bucket/folder", show_default=False)],
    as_json: Json = False,
) -> None:
    """Look at a source and print a job file for it: indexer init /srv/archive > jobs/archive.yaml"""
    from indexer import init_view

    init_view.show_init(uri, as_json=as_json)


@upkeep.command()
def doctor(
    job: Annotated[Optional[Path], typer.Argument(metavar="[JOB]", help="Look at what this job names, too.")] = None,  # noqa: UP045
    timeout: Annotated[str, typer.Option(metavar="T", help="How long one check may take.")] = "30s",
    as_json: Json = False,
) -> None:
    """Check whether everything is there that a run needs, and say how to get what is not."""
    from indexer import doctor_view

    raise typer.Exit(doctor_view.show_doctor(job, timeout=timeout, as_json=as_json))


@upkeep.command()
def schedule(
    job: JobFile,
    scheduler: Annotated[Scheduler, typer.Option("--as", help="What is to start the runs.", show_default=False)],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FOLDER", help="Write files there.")] = None,  # noqa: UP045
    image: Annotated[str, typer.Option(metavar="IMAGE", help="The container image, for Kubernetes.")] = "indexer:latest",
    as_json: Json = False,
) -> None:
    """Print the files that make cron, systemd or Kubernetes run a job by its schedule."""
    from indexer import schedule_view

    schedule_view.show_schedule(job, scheduler, folder=output, image=image, as_json=as_json)


@upkeep.command()
def migrate(job: JobFile, as_json: Json = False) -> None:
    """Bring a catalog that an older version made up to date. A run does so by itself."""
    from indexer import views

    views.migrate_catalog(job, as_json=as_json)
