"""A job on real small videos, run the way `indexer run` runs it, in this process or as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from indexer import pipeline
from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.execute import make_executor
from indexer.records import Outcome
from indexer.report import Tally
from tests.dump import canonical_dump
from tests.videos import pattern, write_video


@dataclass
class Heard:
    """A reporter that remembers."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    tally: Tally | None = None
    ended: str = ""

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def started(self, tally: Tally) -> None:
        self.tally = tally

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def progress(self, tally: Tally) -> None:
        pass

    def finished(self, tally: Tally, outcome: str) -> None:
        self.tally, self.ended = tally, outcome

    def failed(self, message: str, exit_code: int) -> None:
        self.ended = f"failed: {message}"

    @property
    def videos(self) -> dict[str, int]:
        assert self.tally is not None
        counts: dict[str, int] = self.tally.as_event(self.ended)["videos"]
        return counts


class Archive:
    """A folder of videos and a job for it: r3d_18 on two frames a clip, random but seeded weights, which is quick."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos = folder / "videos"
        self.job_path = folder / "job.yaml"
        self.videos.mkdir(parents=True)
        self.settings: dict[str, Any] = {
            "name": "test",
            "source": {"uri": "videos", "min_age": "0s", "missing_limit": 1.0},
            "model": {"name": "r3d_18", "weights": "random", "precision": "fp32"},
            "sampling": {"segment": "1s", "frames": 2},
            "output": {"uri": "index", "top_k": 3, "min_score": 0.0},
        }

    def add(self, name: str, *, first: int = 0, frames: int = 50, **options: Any) -> Path:
        """Two seconds of video; `first` makes its pictures its own."""
        path = self.videos / name
        return write_video(path, frames=frames, picture=lambda number: pattern(number + first), **options)

    def write_job(self, **sections: Any) -> Path:
        for name, values in sections.items():
            self.settings[name] = self.settings.get(name, {}) | values
        self.job_path.write_text(yaml.safe_dump(self.settings))
        return self.job_path

    def run(self, *, local: bool = True, limit: int | None = None, retry_failed: bool = False, **sections: Any) -> Heard:
        job = load_job(self.write_job(**sections))
        heard = Heard()
        options = pipeline.Options(limit=limit, retry_failed=retry_failed)
        pipeline.run(job, lambda: make_executor(job, local=local), heard, options, stopped=lambda: False)
        return heard

    def command(self, *words: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """`indexer WORDS` as a process of its own; `script` runs instead of the program's entry point."""
        program = [sys.executable, *(["-m", "indexer"] if script is None else [str(script)])]
        return subprocess.run(
            [*program, *words], cwd=self.folder, env=os.environ | environment, capture_output=True, text=True, timeout=240
        )

    def search(self, words: str, *options: str) -> dict[str, Any]:
        found = self.command("search", words, "--job", str(self.job_path), "--json", *options)
        document: dict[str, Any] = json.loads(found.stdout)
        return document

    def dump(self) -> list[Any]:
        """Everything that the index says, without ids, names and times, and relative to this folder."""
        engine = open_catalog(load_job(self.job_path).output.catalog, create=False)
        assert engine is not None
        try:
            return json.loads(json.dumps(canonical_dump(engine), default=str).replace(str(self.folder), ""))  # type: ignore[no-any-return]
        finally:
            engine.dispose()

    @property
    def parts(self) -> list[Path]:
        return sorted((self.folder / "index" / "parts").glob("*"))
