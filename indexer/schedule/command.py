"""The command that a scheduler starts, and what it needs around it. Variables are named, their values never shown."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from indexer.config import Job
from indexer.jobfile import read_job_file
from indexer.storage.address import is_s3

# Read by libraries and by us, not through the job file.
_OURS = re.compile(r"AWS_[A-Z_]+|PG[A-Z]+|INDEXER_[A-Z_]+|RAY_(AUTH_[A-Z_]+|ADDRESS)|TORCH_HOME|XDG_CACHE_HOME")

_FOLDERS = ("INDEXER_SCRATCH", "XDG_CACHE_HOME", "TORCH_HOME")


class _Asked(Mapping[str, str]):
    """The environment, which remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)


@dataclass(frozen=True, slots=True)
class Command:
    """`indexer run JOB`, as it would be typed on this machine."""

    job: Job

    @property
    def words(self) -> list[str]:
        beside = Path(sys.executable).with_name("indexer")
        program = str(beside) if beside.exists() else shutil.which("indexer")
        start = [program] if program else [sys.executable, "-m", "indexer"]
        return [*start, "run", str(self.job.path)]

    @property
    def variables(self) -> list[str]:
        """Names of the variables of this environment that a run would read; a scheduler starts it without them."""
        asked = _Asked()
        read_job_file(self.job.path, asked)
        return sorted(name for name in os.environ if name in asked.names or _OURS.fullmatch(name))

    @property
    def writable_folders(self) -> list[str]:
        """Folders of this machine that a run writes to."""
        folders = [] if is_s3(self.job.output.uri) else [self.job.output.uri]
        url = make_url(self.job.output.catalog)
        if url.get_backend_name() == "sqlite" and url.database:
            folders.append(str(Path(url.database).parent))
        if self.job.monitor.metrics is not None:
            folders.append(str(Path(self.job.monitor.metrics).parent))
        folders += [str(Path(os.environ[name]).expanduser().absolute()) for name in _FOLDERS if os.environ.get(name)]
        return [folder for place, folder in enumerate(folders) if folder not in folders[:place]]
