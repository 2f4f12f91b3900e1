"""From what a source holds to a job file for it, with a comment for each choice."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from indexer.init.survey import Survey

SHORT_SECONDS = 30.0
"""Videos that are mostly shorter than this are cut into shorter segments: one moment fills a third of them."""
MANY_HOURS = 200.0
"""On a CPU, more video than this is sampled more sparsely."""
DEFAULT_PIXELS = 36_000_000


@dataclass(frozen=True, slots=True)
class Choices:
    """What the job file says that is not a default for everybody, each with its reason."""

    name: str
    include: tuple[str, ...]
    model: str
    model_because: str
    segment: str
    segment_because: str
    max_pixels: str
    max_pixels_because: str


def choose(survey: Survey, *, gpu: bool) -> Choices:
    stem = PurePosixPath(survey.uri).name.removesuffix(PurePosixPath(survey.uri).suffix) or "archive"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "archive"
    hours = survey.video_seconds / 3600
    if survey.median_seconds < SHORT_SECONDS:
        segment, why = "3s", f"half of the videos are shorter than {survey.median_seconds:.0f} s"
    elif not gpu and hours > MANY_HOURS:
        segment, why = "30s", f"{hours:,.0f} hours are much for a CPU: 10s finds more, and takes three times as long"
    else:
        segment, why = "10s", "length of one row of the index"
    if survey.most_pixels > DEFAULT_PIXELS:
        pixels = f"{math.ceil(survey.most_pixels * 1.1 / 1e6)}M"
        why_pixels = "there are larger pictures here than the 36M of the default"
    else:
        pixels, why_pixels = "36M", "a video with larger pictures fails; 36M is more than 8K"
    model, why_model = (
        ("mvit_v2_s", "the most accurate of its size")
        if gpu
        else ("r3d_18", "no GPU here: the quickest on a CPU; mvit_v2_s knows more, and takes 4 times as long")
    )
    return Choices(
        name=name,
        include=tuple(f"**/*{extension}" for extension in survey.extensions),
        model=model,
        model_because=why_model,
        segment=segment,
        segment_because=why,
        max_pixels=pixels,
        max_pixels_because=why_pixels,
    )


def draft(survey: Survey, choices: Choices) -> str:
    """The job file. Its source is absolute: nobody knows yet where the file will lie."""
    include = "\n".join(
        _explained(f"    - {_text(pattern)}", f"{survey.extensions[pattern[4:]]:,}") for pattern in choices.include
    )
    lines = [
        "# yaml-language-server: $schema=../schemas/job.schema.json",
        "#",
        *(f"# {line}".rstrip() for line in describe(survey)),
        "#",
        "# Next: indexer plan, then indexer run, with this file. Relative paths are relative to this file.",
        "# `indexer schema job`, or jobs/archive.yaml of the program, has every key.",
        "",
        _explained(f"name: {choices.name}", "in messages and in the catalog"),
        "",
        "source:",
        _explained(f"  uri: {_text(survey.uri)}", "nothing is ever written there"),
        "  include:",
        include,
        _explained("  exclude: []", 'such as ["**/proxies/**"]'),
        _explained("  min_age: 10m", "a file changed more recently may still be growing: it waits for the next run"),
        "",
        "model:",
        _explained(f"  name: {choices.model}", choices.model_because),
        _explained("  weights: KINETICS400_V1", "400 actions; fetched once"),
        "",
        "sampling:",
        _explained(f"  segment: {choices.segment}", choices.segment_because),
        _explained("  clips: 1", "per segment; more are more accurate, and take longer"),
        "",
        "decode:",
        _explained(f"  max_pixels: {choices.max_pixels}", choices.max_pixels_because),
        _explained("  timeout: 2m", "a video that gives no clip for this long fails"),
        "",
        "output:",
        _explained(f"  uri: ./index-{choices.name}", "folder of the Parquet files and of catalog.db; or s3://, with catalog:"),
        "",
        "schedule:",
        _explained("  cron: null", 'such as "15 1 * * *", every night; then indexer schedule makes the files for it'),
        _explained("  time_zone: UTC", "or for example Europe/Berlin"),
    ]
    return "\n".join(lines) + "\n"


def describe(survey: Survey) -> list[str]:
    """The source in a few sentences."""
    count = f"{'' if survey.complete else 'more than '}{survey.videos:,}"
    lines = [
        f"{count} videos in {survey.uri}, {survey.size_bytes / 1e9:,.2f} GB, about {survey.video_seconds / 3600:,.1f} hours."
    ]
    if survey.codecs:
        shortest, median, longest = survey.shortest_seconds, survey.median_seconds, survey.longest_seconds
        lines.append(f"Of {survey.sampled} looked at: {_counted(survey.codecs)}; {_counted(survey.resolutions)};")
        lines.append(f"{shortest:,.0f} to {longest:,.0f} s long, half of them below {median:,.0f} s.")
    if survey.unreadable:
        lines.append(f"Of {survey.sampled} looked at, these cannot be indexed: {_counted(survey.unreadable)}.")
    if survey.others:
        lines.append(f"Not videos by their names, and left out: {_counted(survey.others)}.")
    return [" ".join(line.split()) for line in lines]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name or 'without extension'}" for name, count in counts.items())


def _explained(line: str, comment: str) -> str:
    return f"{line:<38} # {comment}"


def _text(value: str) -> str:
    """As YAML, whatever is in it; ${ is no variable here."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${")
