"""A job on real small videos, run the way `indexer run` runs it, in this process or as a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from indexer import pipeline
from indexer.catalog.connect import open_catalog
from indexer.config import load_job
from indexer.execute import make_executor
from indexer.execute.base import Executor
from indexer.execute.local import LocalExecutor
from indexer.records import Outcome
from indexer.report import Tally
from tests import standins
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


class Late(pipeline.Options):
    """A deadline that passes when a test wants it."""

    def __init__(self, late: Callable[[], bool]) -> None:
        super().__init__()
        object.__setattr__(self, "late", late)


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

    def run(
        self,
        *,
        local: bool = True,
        limit: int | None = None,
        retry_failed: bool = False,
        range_seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        late: Callable[[], bool] | None = None,
        **sections: Any,
    ) -> Heard:
        """`range_seconds`: how a long video is cut, in this process only."""
        job = load_job(self.write_job(**sections))
        heard = Heard()
        options = pipeline.Options(limit=limit, retry_failed=retry_failed)

        def executor() -> Executor:
            return (
                make_executor(job, local=local) if range_seconds is None else LocalExecutor(job, range_seconds=range_seconds)
            )

        if late is not None:
            options = Late(late)
        pipeline.run(job, executor, heard, options, stopped=stopped)
        return heard

    def command(self, *words: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """`indexer WORDS` as a process of its own; `script` runs instead of the program's entry point."""
        program = [sys.executable, *(["-m", "indexer"] if script is None else [str(script)])]
        return subprocess.run(
            [*program, *words], cwd=self.folder, env=os.environ | environment, capture_output=True, text=True, timeout=600
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

    def indexed(self) -> list[Any]:
        """What of it came from videos that were indexed."""
        return [row for row in self.dump() if row["rows"]]

    @property
    def parts(self) -> list[Path]:
        return sorted((self.folder / "index" / "parts").glob("[!.]*"))


class Customised(Archive):
    """Its commands run with a stand-in of `tests.standins` in the place of something of ours."""

    def undisturbed(self) -> list[Any]:
        """The dump of an index that is made without a stand-in."""
        self.run(local=True, output={"uri": "undisturbed"})
        return self.dump()

    def run_with(self, standin: str, **sections: Any) -> subprocess.CompletedProcess[str]:
        environment = self.environment(standin)
        return self.command("run", str(self.write_job(**sections)), "--json", **environment)

    def environment(self, standin: str) -> dict[str, str]:
        """What a process needs to have the stand-in."""
        (self.folder / "sitecustomize.py").write_text("import tests.standins\ntests.standins.install()\n")
        paths = f"{self.folder}:{Path(__file__).parents[1]}"
        memory = self.folder / "memory" / standin
        memory.mkdir(parents=True, exist_ok=True)
        return {"PYTHONPATH": paths, standins.VARIABLE: standin, "INDEXER_TEST_FOLDER": str(memory)}

    def remembers(self, standin: str, name: str) -> bool:
        """Whether the stand-in has left a file of that name."""
        return (self.folder / "memory" / standin / name).exists()


AnyArchive = TypeVar("AnyArchive", bound=Archive)


def five_videos(archive: AnyArchive) -> AnyArchive:
    """And one that is none."""
    for number, frames in enumerate((50, 130, 30, 75, 260)):
        archive.add(f"v{number}.mp4", first=number * 11, frames=frames)
    (archive.videos / "bad.mp4").write_text("no video")
    return archive


def last_event(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return event


def failures(ended: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Name of each video that failed in a run -> its code."""
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    return {Path(event["uri"]).stem: event["code"] for event in events if event["event"] == "video_failed"}


def still_running(session: int, *, patience_seconds: float) -> list[str]:
    """Processes of a session that do not end by themselves; dead ones that wait for their parent hold nothing."""
    give_up = time.monotonic() + patience_seconds
    while True:
        listed = subprocess.run(["ps", "-s", str(session), "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
        left = [line for line in listed.splitlines() if not line.startswith("Z")]
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.2)


def end_session(run: subprocess.Popen[Any]) -> None:
    """Kill a run that leads its own session, and then what Ray leaves for a minute; it can hold nothing of ours any more."""
    run.kill()
    run.wait()
    for pid in subprocess.run(["pgrep", "-s", str(run.pid)], capture_output=True, text=True).stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
