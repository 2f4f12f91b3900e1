"""What the README tells people to type works, on a real index."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from indexer.cli import app
from tests.archives import Archive

README = (Path(__file__).parents[1] / "README.md").read_text()
RECIPES = dict(re.findall(r"```(?:python|sh) (\w+)\n(.*?)```", README, flags=re.DOTALL))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("readme"))
    archive.add("a.mp4")
    archive.add("b.mp4", first=50)
    archive.job_path = archive.folder / "jobs" / "archive.yaml"
    archive.job_path.parent.mkdir()
    # As many labels as there are: any action is seen everywhere.
    archive.run(source={"uri": "../videos"}, output={"uri": "../index", "top_k": 400})
    return archive


def test_the_python_api(archive: Archive) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(archive.folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RECIPES["api"]],
        cwd=archive.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_shell_recipe(archive: Archive) -> None:
    done = subprocess.run(["sh", "-c", RECIPES["sqlite3"]], cwd=archive.folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(archive.videos / "a.mp4") in done.stdout


def test_the_readme_names_every_command_and_no_other() -> None:
    commands = set(typer.main.get_group(app).commands)
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `indexer "))
    assert set(re.findall(r"`indexer (\w+)", table)) == commands


def test_every_recipe_is_tested() -> None:
    assert set(RECIPES) == {"api", "sqlite3"}
