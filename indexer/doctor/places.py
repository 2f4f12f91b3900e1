"""What a job names: its source, its output, its catalog, its weights."""

from __future__ import annotations

import os
import shutil
import time
import urllib.error
import urllib.request
from itertools import islice
from pathlib import Path

from indexer.catalog import migrate
from indexer.catalog.connect import open_catalog, reading
from indexer.catalog.refusals import shown
from indexer.config import Job
from indexer.doctor.findings import Finding, failed, ok, warning
from indexer.plan.listing import list_source
from indexer.records import Failure, Skipped, Video
from indexer.storage.address import is_s3
from indexer.storage.trial import try_conditional, try_object, try_output, try_reading

FIRST_PAGE = 1000
LEAST_FREE_BYTES = 1 << 30
ANSWER_SECONDS = 10


def source(job: Job) -> Finding:
    page = list(islice(list_source(job.source, now=time.time(), warn=lambda text: None), FIRST_PAGE))
    if not page:
        patterns = ", ".join(job.source.include[:5])
        return warning(
            f"{job.source.uri} can be read, but nothing in it matches source.include ({patterns} ...)", "Correct source."
        )
    kinds = {"videos": Video, "skipped": Skipped, "not readable": Failure}
    counts = {name: sum(isinstance(item, kind) for item in page) for name, kind in kinds.items()}
    more = " in its first page" if len(page) == FIRST_PAGE else ""
    said = f"{job.source.uri}: {', '.join(f'{n:,} {name}' for name, n in counts.items() if n)}{more}"
    if counts["not readable"]:
        return warning(said, "Give the user that runs the indexer read permission.")
    in_s3 = next((item for item in page if isinstance(item, Video) and is_s3(item.uri) and item.size_bytes > 1), None)
    if in_s3 is None:
        return ok(said)
    unknown = try_reading(in_s3)
    if "Range" in unknown:
        fix = "Videos cannot be read from it; use one that knows parts of objects."
        return failed(f"{said}; the storage gives all of {in_s3.uri} where one byte is asked for (Range)", fix, exit_code=10)
    if unknown:
        return warning(f"{said}; the storage does not know If-Match: a video that changes while it is read is noticed later")
    return ok(f"{said}; parts of one version can be read (Range, If-Match)")


def output(job: Job) -> Finding:
    """Writes a small file and deletes it, if the folder is there; a run makes it."""
    uri = job.output.uri
    if is_s3(uri) or Path(uri).exists():
        kept = try_output(uri)
        if kept:
            return warning(f"{uri} is writable, but nothing may be deleted in it: {kept} stays", "`gc` needs s3:DeleteObject.")
    if is_s3(uri):
        return ok(f"{uri} is writable")
    there = next(parent for parent in (Path(uri), *Path(uri).parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        fix = "Give the user that runs the indexer write permission there, or change output.uri."
        return failed(f"{uri} is not there, and cannot be made in {there}", fix, exit_code=14)
    free = shutil.disk_usage(there).free
    said = f"{uri} {'is writable' if there == Path(uri) else 'will be made'}; {free / 1e9:,.1f} GB free"
    return ok(said) if free >= LEAST_FREE_BYTES else warning(said, "Free some space there, or change output.uri.")


def conditional(job: Job) -> Finding:
    """Whether the storage keeps two writers from the same name: PUT with If-None-Match."""
    if try_conditional(job.output.uri):
        return ok("the storage of the output refuses to replace a file (If-None-Match)")
    return warning("the storage of the output does not know If-None-Match: only their unique names keep parts apart")


def catalog(job: Job) -> Finding:
    engine = open_catalog(job.output.catalog, create=False, read_only=True)
    if engine is None:
        return ok("there is none yet; the first run makes it")
    try:
        with reading(engine) as connection:
            found = migrate.revision(connection)
        return ok(f"{shown(engine.url)}, schema {found}")
    finally:
        engine.dispose()


def weights(job: Job) -> Finding:
    from indexer.infer.models import find_entry
    from indexer.infer.weights import MIRROR_VARIABLE, cache_path, download_url, is_checkpoint, read_labels, resolve_weights

    model = job.model
    if model.weights == "random":
        return warning("model.weights is random: labels will mean nothing; for trials only")
    sizes = {}
    for key, uri in (("model.weights", model.weights), ("model.labels", model.labels)):
        if uri is not None and is_s3(uri):  # looked at, not fetched
            try:
                sizes[uri] = try_object(uri)
            except OSError as error:
                fix = "Correct the address, or what these credentials may read."
                return failed(f"{key}: {uri} cannot be had: {error.strerror}", fix, exit_code=15)
    if model.labels not in sizes:
        read_labels(model.labels)
    if model.weights in sizes:
        return ok(f"{model.weights}, {sizes[model.weights] / 1e6:,.1f} MB, will be fetched when a run begins")
    if is_checkpoint(model):
        return ok(f"{model.weights}, sha256 {resolve_weights(model).sha256[:12]}")
    entry = find_entry(model.name, model.weights)
    if cache_path(entry).exists():
        return ok(f"{model.name} {model.weights}, sha256 {resolve_weights(model).sha256[:12]}, in {cache_path(entry).parent}")
    url = download_url(entry)
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            size = int(answer.headers.get("Content-Length", 0))
    except (urllib.error.URLError, OSError, ValueError) as error:
        fix = f"Put the file at {cache_path(entry)}, or set {MIRROR_VARIABLE} to the address of a mirror."
        return failed(f"{model.name} {model.weights} is not here, and {url} cannot be had: {error}.", fix, exit_code=15)
    return ok(f"{model.name} {model.weights} will be fetched from {url} ({size / 1e6:,.0f} MB)")
