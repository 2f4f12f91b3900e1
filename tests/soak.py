"""Kills runs at random moments, lets them finish, and compares with an undisturbed run. `make soak N=100` does it N times.

    python -m tests.soak 100 [--seed 1234] [--ray 5]

Every fifth round is on Ray, or as `--ray` says; 0 is none, 1 is all. A seed that fails is printed, and can be given again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.archives import Archive, end_session
from tests.dump import assert_sound, live_rows, live_rows_of_parts
from tests.videos import pattern, write_video

MOST_KILLS = 3


class Soak:
    """One archive, its undisturbed index, and as many disturbed ones as wanted."""

    def __init__(self, folder: Path, *, local: bool) -> None:
        self._archive = Archive(folder)
        self._options = ["--local"] if local else []
        for number in range(6):
            self._archive.add(f"v{number}.mp4", first=number * 9, frames=40 + 30 * number)
        (self._archive.videos / "bad.mp4").write_text("no video")
        small = [pattern(number, width=64, height=48) for number in range(28)]
        write_video(
            self._archive.videos / "long.mp4",
            frames=1300, fps=1, width=64, height=48, gop=5, picture=lambda number: small[number % 28],
        )  # fmt: skip
        self._job = self._archive.write_job(sampling={"segment": "10s", "frames": 2})
        began = time.monotonic()
        assert self._run() == 3
        self.seconds = time.monotonic() - began
        self._expected = self._archive.dump()

    def disturbed(self, seed: int) -> int:
        """Start from nothing, kill one to three times, finish, compare. Gives the number of kills that hit, at least one."""
        hits = 0
        while not hits:
            dice = random.Random(seed)
            shutil.rmtree(self._archive.folder / "index", ignore_errors=True)
            hits = sum(self._killed(dice.uniform(0.1, 1.0) * self.seconds) for _ in range(dice.randint(1, MOST_KILLS)))
            if not hits:
                self.seconds /= 2  # the undisturbed run was slower than this machine is now
        code = self._run()
        assert code == 3, f"seed {seed}: the run after the kills ended with {code}"
        assert self._archive.dump() == self._expected, f"seed {seed}: another index than undisturbed"
        database = f"sqlite:///{self._archive.folder}/index/catalog.db"
        assert_sound(database)
        assert live_rows(database) == live_rows_of_parts(database, self._archive.folder / "index"), f"seed {seed}"
        assert not list((self._archive.folder / "index").glob("staging/*")), f"seed {seed}: something stays staged"
        return hits

    def _start(self) -> subprocess.Popen[Any]:
        command = [sys.executable, "-m", "indexer", "run", str(self._job), *self._options]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def _run(self) -> int:
        return self._start().wait(timeout=300)

    def _killed(self, after_seconds: float) -> bool:
        run = self._start()
        try:
            run.wait(timeout=after_seconds)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            end_session(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--ray", type=int, default=5, metavar="N", help="every N-th round is on Ray")
    arguments = parser.parse_args()
    soaks: dict[bool, Soak] = {}
    hits = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            seed = arguments.seed + number
            local = not arguments.ray or (number + 1) % arguments.ray != 0
            where = "in one process" if local else "on Ray"
            if local not in soaks:
                soaks[local] = Soak(Path(folder) / ("local" if local else "ray"), local=local)
                print(f"undisturbed {where}: {soaks[local].seconds:.1f} s", flush=True)
            hits += soaks[local].disturbed(seed)
            print(f"seed {seed} {where}: equal ({hits} kills so far)", flush=True)


if __name__ == "__main__":
    main()
