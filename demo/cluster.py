"""`make cluster-demo`: a cluster of processes on this machine, one of whose two workers is killed in the middle of a run.

    S3 server     PostgreSQL       Ray head 127.0.0.2
        |             |             |
        +------- indexer run -------+------ workers 127.0.0.3 and 127.0.0.4, which is killed

It is docker/compose.yaml without containers: its bucket is made in the same way, and the job reads and writes where that of
jobs/compose.yaml does. What comes out is compared with the index of an undisturbed run in one process, from a folder, into
SQLite. Works offline. Exit code 0 if they are equal; whatever happens, nothing is left running.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.fs
import yaml

from demo.archive import make_archive
from demo.checkpoint import fit_checkpoint
from demo.compared import Indexed, differences, read_index
from demo.topology import SIGNALS, Failed, Running, database, free_port, ray_node, running, storage
from indexer.config import load_job

ROOT = Path("demo-archive")
REPOSITORY = Path(__file__).parents[1]
INDEXER = (sys.executable, "-m", "indexer")
BUCKET = "archive"
HEAD, WORKERS = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
RUN_SECONDS = 240.0
"""A run that takes longer hangs."""


def main() -> None:
    """With the videos and the model of `make demo`, which are made if they are not there yet."""
    listen()
    began = time.monotonic()
    say(f"{ROOT} has videos of synthetic actions and a model that knows them; they are made now if they are not there")
    make_archive(ROOT / "videos")
    model = fit_checkpoint(ROOT / "model").absolute()
    settings = yaml.safe_load(Path("jobs/demo.yaml").read_text())
    # In fp32 the same clip gets the same score in whatever batch it comes.
    settings["model"] |= {"weights": str(model), "labels": str(model.with_name("labels.txt")), "precision": "fp32"}
    try:
        equal = demonstrate(ROOT / "videos", settings, "wheel spinning")
    except Failed as error:
        sys.exit(str(error))
    say(f"{time.monotonic() - began:.0f} s in all. Everything that was started is stopped.")
    sys.exit(0 if equal else 1)


def demonstrate(videos: Path, settings: Mapping[str, Any], words: str) -> bool:
    """Whether the index that a cluster makes of `videos` while it loses a worker equals that of one undisturbed process.

    `settings` are those of a job file, of which source, output and Ray are replaced; `words` are searched for. Raises Failed.
    """
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="indexer-")))  # short: Ray's sockets lie in it
        say("\nUndisturbed: one process, from a folder, into SQLite.")
        source = str(videos.absolute())
        job = _write_job(folder / "undisturbed.yaml", settings, source={"uri": source}, output={"uri": "undisturbed"})
        with running(*INDEXER, "run", str(job), "--local", "--json", environment=os.environ, log=folder / "one.log") as run:
            undisturbed = _end(run)
        say(_sentence(undisturbed))
        output = load_job(job).output
        expected = read_index(output.catalog, source, output.uri, pyarrow.fs.LocalFileSystem())

        say("\nThe cluster:")
        s3 = started.enter_context(storage(folder)) | {"BUCKET": BUCKET}
        fill = [sys.executable, str(REPOSITORY / "docker/bucket.py"), str(videos)]
        filled = subprocess.run(fill, env=os.environ | s3, check=True, capture_output=True, text=True).stdout.strip()
        say(f"- an S3 server at {s3['AWS_ENDPOINT_URL']}: {filled}")
        catalog = started.enter_context(database(folder))
        say("- a PostgreSQL server for the catalog")
        (folder / "scratch").mkdir()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        ray = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # whatever its name says: other addresses than 127.0.0.1
        environment = os.environ | s3 | token | ray | {"INDEXER_SCRATCH": str(folder / "scratch")}
        head = f"{HEAD}:{free_port()}"
        workers = _start_ray(started, head, environment, folder)
        say(f"- Ray, its head at {head}, its workers at {' and '.join(workers)}; who joins them must show their token")

        places = yaml.safe_load((REPOSITORY / "jobs/compose.yaml").read_text())
        sections = {name: places[name] for name in ("source", "output", "ray")}
        job = _write_job(folder / "cluster.yaml", settings, **sections)
        environment |= {"CATALOG": catalog, "RAY_ADDRESS": head}
        say("\nOn the cluster: from S3, decoded by both workers, into S3 and PostgreSQL.")
        with running(*INDEXER, "run", str(job), "--json", environment=environment, log=folder / "run.log") as run:
            _kill_at_work(workers, run)
            event = _end(run)
        say(_sentence(event))
        for command in (("search", words, "--job", str(job), "--limit", "5"), ("check", str(job), "--deep")):
            say(f"\n$ indexer {shlex.join(command)}")
            if code := subprocess.run([*INDEXER, *command], env=environment).returncode:
                raise Failed(f"indexer {command[0]} ended with exit code {code}")
        keys = {"access_key": s3["AWS_ACCESS_KEY_ID"], "secret_key": s3["AWS_SECRET_ACCESS_KEY"], "region": s3["AWS_REGION"]}
        files = pyarrow.fs.S3FileSystem(endpoint_override=s3["AWS_ENDPOINT_URL"], **keys)
        found = read_index(catalog, f"s3://{BUCKET}/videos", f"{BUCKET}/index", files)
        return compare(expected, found) and event["videos"] == undisturbed["videos"]


def _start_ray(started: ExitStack, head: str, environment: Mapping[str, str], folder: Path) -> dict[str, Running]:
    """A head, which computes nothing, and two workers. Gives the workers by their address."""
    host, _, port = head.partition(":")
    options = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder / 'ray'}")
    started.enter_context(ray_node(*options, host=host, environment=environment, folder=folder))
    joining = (f"--address={head}", "--num-cpus=1")
    return {
        host: started.enter_context(ray_node(*joining, host=host, environment=environment, folder=folder)) for host in WORKERS
    }


def _kill_at_work(workers: Mapping[str, Running], run: Running) -> None:
    """SIGKILL to all processes of the last worker, as soon as it decodes."""
    host, worker = list(workers.items())[-1]
    run.wait_until(lambda: "ray::decode_process" in worker.processes().values(), seconds=RUN_SECONDS)
    lost = worker.kill()
    say(f"The worker at {host} is killed while it decodes: {len(lost)} processes.")


def _end(run: Running) -> dict[str, Any]:
    """The last event of a run."""
    run.wait(seconds=RUN_SECONDS)
    last = [line for line in run.said.splitlines() if line.startswith('{"event": "run_finished"')]
    if not last:
        raise Failed(f"the run did not finish:\n{run.said[-2000:]}")
    event: dict[str, Any] = json.loads(last[0])
    return event


def _sentence(event: Mapping[str, Any]) -> str:
    indexed, failed = (event["videos"][state] for state in ("indexed", "failed"))
    return f"The run ended {event['outcome']}: {indexed} videos with {event['segments']} segments, {failed} failed."


def _write_job(path: Path, settings: Mapping[str, Any], **changes: Mapping[str, Any]) -> Path:
    """`settings`, with some keys of some sections replaced."""
    changed = {section: settings.get(section, {}) | dict(keys) for section, keys in changes.items()}
    path.write_text(yaml.safe_dump({**settings, **changed}))
    return path


def compare(expected: Indexed, found: Indexed) -> bool:
    """Says what differs."""
    sentences = differences(expected, found)
    for sentence in sentences[:10]:
        say(sentence)
    verdict = "the same" if not sentences else f"{len(sentences)} differ"
    rows, embeddings = ([len(getattr(index, what)) for index in (expected, found)] for what in ("results", "embeddings"))
    say(
        f"\n{rows[0]} rows and {embeddings[0]} embeddings in the undisturbed index, {rows[1]} and {embeddings[1]} in the"
        f" cluster's: {verdict}."
    )
    return not sentences


def listen() -> None:
    """Let Ctrl-C and its like end this process when it has cleaned up, in which a second one does not disturb it."""

    def leave(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, leave)


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    main()
