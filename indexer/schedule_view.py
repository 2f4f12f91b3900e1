"""`indexer schedule`: prints or writes the files that make a scheduler start the runs of a job."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from pathlib import Path
from typing import Literal

from indexer.config import load_job
from indexer.errors import ConfigError, OutputError
from indexer.schedule.command import Command
from indexer.schedule.crontab import crontab
from indexer.schedule.kubernetes import cron_job, ray_cron_job
from indexer.schedule.systemd import units
from indexer.schedule.times import next_times
from indexer.views import complain, print_json

Scheduler = Literal["cron", "systemd", "kubernetes", "rayjob"]


def show_schedule(path: Path, scheduler: Scheduler, *, folder: Path | None, image: str, as_json: bool) -> None:
    """Raises ConfigError for a job without a schedule, OutputError if the files cannot be written."""
    job = load_job(path)
    cron, zone = job.schedule.cron, job.schedule.time_zone
    if cron is None:
        example = 'schedule:\n  cron: "15 1 * * *"\n  time_zone: Europe/Berlin'
        raise ConfigError(f"{path}: schedule.cron: is not set; write\n\n{example}")
    command = Command(job)
    match scheduler:
        case "cron":
            files = crontab(command, cron, zone)
        case "systemd":
            files = units(command, cron, zone, getpass.getuser())
        case "kubernetes":
            files = cron_job(command, cron, zone, image)
        case "rayjob":
            files = ray_cron_job(command, cron, zone, image)
    nights = next_times(cron, zone, datetime.now().astimezone(), 3)
    if folder is not None:
        _write(folder, files)
    if as_json:
        print_json({"files": files, "next_runs": [night.isoformat() for night in nights]})
    elif folder is None:
        sys.stdout.write("\n".join(files.values()))
    complain(f"next: {', '.join(f'{night:%a %Y-%m-%d %H:%M}' for night in nights)} ({zone})")


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            complain(f"wrote {folder / name}")
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written: {error.strerror}") from error
