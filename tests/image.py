"""The steps of docker/Dockerfile as shell, in clean folders, and what the image is for after them. `make image-steps` runs it.

It needs the network and six GB, so it is no part of the tests. The base image and the user are what it cannot show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from demo.topology import free_port, running

ROOT = Path(__file__).parents[1]


def steps(stage: str) -> Iterator[tuple[str, str]]:
    """Instructions of one stage: (word, the rest)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in re.split(r"^FROM .* AS ", text, flags=re.MULTILINE)[1:]:
        name, *lines = line.splitlines()
        if name == stage:
            yield from (tuple(each.split(maxsplit=1)) for each in lines if each)  # type: ignore[misc]


def build(folder: Path) -> Path:
    """Do what the stage `build` does. Gives the environment that the image takes over."""
    place, opt = folder / "build", folder / "opt"
    place.mkdir()
    venv.create(folder / "python", with_pip=True)
    environment = {"PATH": f"{folder}/python/bin:/usr/bin:/bin", "HOME": str(folder)}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    for word, rest in steps("build"):
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                there = place / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, there, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, there)
        elif word == "RUN":
            command = rest.replace("/opt/indexer", str(opt)).replace("--no-cache ", "")
            print(f"$ {command}", flush=True)
            subprocess.run(["sh", "-ec", command], cwd=place, env=environment, check=True)
    return opt


def use(opt: Path, folder: Path) -> None:
    """The entry point, the check of health, and a job for a Ray that has the job server."""
    environment = {
        "PATH": f"{opt}/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "x" * 40,
    }
    port, jobs = free_port(), free_port()
    environment |= {"INDEXER_HEALTH": "ray", "RAY_ADDRESS": f"127.0.0.1:{port}"}

    def do(*words: str) -> str:
        print(f"$ {' '.join(words)}", flush=True)
        return subprocess.run(
            words, env=environment, cwd=folder, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    entry, health = str(ROOT / "docker/entrypoint.sh"), str(ROOT / "docker/healthcheck.sh")
    print(do(entry, "--version"), do(entry, "python", "-c", "import opentimelineio; print('otio')"))
    head = (entry, "ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={jobs}", "--num-cpus=0")
    options = ("--node-ip-address=127.0.0.1", "--object-store-memory=100000000", f"--temp-dir={folder}/ray")
    with running(*head, *options, environment=environment, log=folder / "head.log") as node:
        node.wait_until(lambda: "Ray runtime started" in node.said)
        do(health)
        time.sleep(5)  # the job server comes up after the rest
        said = do("ray", "job", "submit", "--address", f"http://127.0.0.1:{jobs}", "--", "indexer", "models")
        assert "mvit_v2_s" in said, said


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="i") as name:  # short: sockets lie in it
        use(build(Path(name)), Path(name))
    print("The image's steps work on this machine.")


if __name__ == "__main__":
    main()
