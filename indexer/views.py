"""What the reading commands print: a table for people, or one JSON document. Nothing here writes to the index."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from indexer.catalog import lookup
from indexer.catalog.connect import open_catalog
from indexer.catalog.migrate import HEAD
from indexer.catalog.refusals import shown
from indexer.config import load_job
from indexer.console import clock, printable
from indexer.errors import VIDEO_ERRORS, ConfigError
from indexer.index import current_recipe, open_index
from indexer.recipe import make_recipe
from indexer.schedule.times import next_times


def show_plan(path: Path, *, retry_failed: bool, as_json: bool) -> None:
    """`indexer plan`. Raises StopRun, like a run would."""
    from indexer.estimate import estimate
    from indexer.pipeline import make_plan

    job = load_job(path)
    recipe = make_recipe(job)
    engine = open_index(job)
    plan = make_plan(job, engine, recipe, retry_failed=retry_failed, warn=complain)
    cost = estimate(plan.work, job, engine, recipe)
    schedule = job.schedule
    nights = [] if schedule.cron is None else next_times(schedule.cron, schedule.time_zone, datetime.now().astimezone(), 3)
    counts = {
        "found": plan.found,
        "new": len(plan.new),
        "changed": len(plan.changed),
        "retry": len(plan.retry),
        "unchanged": plan.unchanged,
        "failed": len(plan.failed) + len(plan.listing_failures),
        "skipped": plan.skipped,
        "gone": len(plan.gone),
    }
    if as_json:
        figures = asdict(cost)
        document = {"videos": counts, "video_seconds": figures.pop("video_seconds"), "estimate": figures}
        print_json(document | {"next_runs": [night.isoformat() for night in nights]})
        return
    table = make_table("", "videos")
    for name, number in counts.items():
        table.add_row(name, f"{number:,}")
    out().print(table)
    of = "" if cost.sampled == len(plan.work) else f", estimated from {cost.sampled} headers"
    out().print(f"to do: {clock(cost.video_seconds)} of video{of}, about {cost.segments:,} segments")
    took = "unknown before the first run" if cost.wall_seconds is None else f"about {clock(cost.wall_seconds)}"
    out().print(f"time: {took}; space: about {cost.index_bytes / 1e6:,.1f} MB. Nothing was written.")
    if nights:
        when = ", ".join(f"{night:%a %Y-%m-%d %H:%M}" for night in nights)
        out().print(f"scheduled for: {when} ({schedule.time_zone})")


def show_failures(path: Path, *, as_json: bool) -> None:
    """`indexer failures`."""
    job = load_job(path)
    engine = open_index(job)
    recipe_id = None if engine is None else lookup.find_recipe(engine, current_recipe(job, engine) or "")
    failed, unseen = [], []
    if engine is not None and recipe_id is not None:
        failed, unseen = lookup.failures(engine, recipe_id), lookup.unseen(engine, recipe_id)
    if as_json:
        print_json([asdict(video) | {"retry": VIDEO_ERRORS[video.code].retry} for video in (*failed, *unseen)])
        return
    if recipe_id is None:
        out().print(Text(f"Nothing is indexed with the settings of {path} yet. Next: indexer run {path}"))
        return
    for video in (*failed, *unseen):
        out().print(Text(printable(video.uri), style="bold"))
        times = f" (tried {video.attempts} times)" if video.attempts > 1 else ""
        out().print(Text(f"  {video.code}: {video.message}{times}\n  {VIDEO_ERRORS[video.code].cure}"))
    out().print(f"{len(failed)} failed" if failed else "No video failed.")
    if unseen:
        of_them = "it" if len(unseen) == 1 else "them"
        out().print(f"{len(unseen)} could not be looked at in the last run; what the index has of {of_them} stays as it was.")


def show_models(*, as_json: bool) -> None:
    """`indexer models`."""
    from indexer.infer.models import MODELS, PUBLISHED_FRAMES, weights_object
    from indexer.infer.weights import cache_path

    rows = []
    for entry in MODELS:
        meta, preset = weights_object(entry).meta, weights_object(entry).transforms()
        accuracy = meta["_metrics"]["Kinetics-400"]
        rows.append(
            {
                "name": entry.name,
                "weights": entry.entry,
                "frames": entry.frames,
                "fps": entry.fps,
                "crop": preset.crop_size[0],
                "embedding": entry.embedding_width,
                "clips_per_video": entry.clips_per_video,
                "top1": accuracy["acc@1"],
                "top5": accuracy["acc@5"],
                "gflops": round(meta["_ops"] * entry.frames / PUBLISHED_FRAMES, 1),
                "parameters": meta["num_params"],
                "downloaded": cache_path(entry).exists(),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = make_table(*rows[0])
    for row in rows:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value) for value in row.values())
        )
    out().print(table)


def show_schema(what: str, *, as_json: bool) -> None:
    """`indexer schema`: as text, or as a JSON document, which the schema of a job is in any case."""
    texts: dict[str, str]
    if what == "job":
        from indexer.config import job_schema

        print_json(job_schema())
        return
    if what == "keys":
        from indexer.job_reference import job_reference

        texts = {"markdown": job_reference()}
    elif what == "part":
        from indexer.write.schema import describe

        texts = {"arrow": describe()}
    elif what == "catalog":
        from indexer.catalog.tables import ddl

        texts = {"sqlite": ddl("sqlite"), "postgresql": ddl("postgresql")}
    else:
        raise ConfigError(f"schema: {what!r} is not known; allowed: job, keys, part, catalog")
    if as_json:
        print_json(texts)
    else:
        sys.stdout.write("\n".join(texts.values()))


def migrate_catalog(path: Path, *, as_json: bool) -> None:
    """`indexer migrate`: opening it for writing is all that it takes. Raises ConfigError if there is none yet."""
    job = load_job(path)
    engine = open_catalog(job.output.catalog, create=False)
    if engine is None:
        raise ConfigError(f"there is no index yet: {shown(job.output.catalog)} does not exist. First: indexer run {path}")
    engine.dispose()
    if as_json:
        print_json({"catalog": shown(job.output.catalog), "schema": HEAD})
    else:
        complain(f"{shown(job.output.catalog)} has schema {HEAD}, the newest that this version knows")


def make_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column)
    return table


def out() -> Console:
    # A pipe has no width: never cut a path for it.
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 10_000)


def complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")
