"""What the README tells people to type works, on a real index."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", ["api", "parquet"])
def test_what_is_said_of_python(archive: Archive, name: str) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(archive.folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RECIPES[name]],
        cwd=archive.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_every_recipe_is_tested() -> None:
    assert set(RECIPES) == {"api", "parquet"}
