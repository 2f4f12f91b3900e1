"""A Ray of two nodes that was started elsewhere; one of them may go."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.archives import Customised, five_videos

STANDIN = "decoding_takes_a_second"


@pytest.fixture
def archive(tmp_path: Path) -> Customised:
    archive = five_videos(Customised(tmp_path))
    for number in range(4):
        archive.add(f"w{number}.mp4", first=50 + number)
    return archive


@pytest.fixture
def cluster(archive: Customised, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # Unlike `ray start`, `Cluster` does not take the token that lies in the home directory; the run would.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    environment = archive.environment(STANDIN)
    cluster = Cluster(initialize_head=True, head_node_args=node("first", environment))
    yield cluster
    cluster.shutdown()


def node(name: str, environment: dict[str, str]) -> dict[str, Any]:
    variables = environment | {"INDEXER_TEST_NODE": name}
    return {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False, "env_vars": variables}


def test_a_node_that_goes_away_costs_no_video(archive: Customised, cluster: Cluster) -> None:
    archive.run(local=True, output={"uri": "undisturbed"})
    expected = archive.dump()
    second = cluster.add_node(**node("second", archive.environment(STANDIN)))
    job = archive.write_job(output={"uri": "index"}, ray={"address": cluster.address})
    run = subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job), "--json"],
        env=os.environ | archive.environment(STANDIN), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    give_up = time.monotonic() + 120
    while not archive.remembers(STANDIN, "second") and time.monotonic() < give_up:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    out, complaints = run.communicate(timeout=200)
    assert run.returncode == 3, complaints
    event = json.loads(out.splitlines()[-1])
    assert (event["outcome"], event["failures"], event["videos"]["indexed"]) == ("partial", {"E_NOT_MEDIA": 1}, 9)
    assert archive.dump() == expected
