"""A Ray of two nodes that was started elsewhere; one of them may go, and somebody may watch."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster

from tests.archives import Customised, five_videos, last_event
from tests.standins import tiny

STANDIN = "slow_decoding_and_noted_gauges"

LABELS = ("state", "code", "stage")
Samples = dict[tuple[str, str], float]
"""(name of a metric, value of its label besides the job, or nothing) -> its value."""


@pytest.fixture
def archive(tmp_path: Path) -> Customised:
    archive = five_videos(Customised(tmp_path))
    for number in range(4):
        archive.add(f"w{number}.mp4", first=50 + number)
    return archive


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    # Unlike `ray start`, `Cluster` does not take the token that lies in the home directory; the run would.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture
def cluster(archive: Customised, no_token: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    environment = archive.environment(STANDIN)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args=node("first", environment) | {"metrics_export_port": port})
    yield cluster
    cluster.shutdown()


def node(name: str, environment: dict[str, str], *, cpus: int = 1) -> dict[str, Any]:
    variables = environment | {"INDEXER_TEST_NODE": name}
    return {"num_cpus": cpus, "object_store_memory": 100_000_000, "include_dashboard": False, "env_vars": variables}


def start_run(archive: Customised, cluster: Cluster) -> "subprocess.Popen[str]":
    job = archive.write_job(output={"uri": "index"}, ray={"address": cluster.address})
    return subprocess.Popen(
        [sys.executable, "-m", "indexer", "run", str(job), "--json"],
        env=os.environ | archive.environment(STANDIN), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until(is_so: Callable[[], object], *, seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while not is_so() and time.monotonic() < give_up:
        time.sleep(0.05)


def test_a_node_that_goes_away_costs_no_video_and_is_seen_in_the_metrics_of_ray(archive: Customised, cluster: Cluster) -> None:
    archive.run(local=True, output={"uri": "undisturbed"})
    expected = archive.dump()
    second = cluster.add_node(**node("second", archive.environment(STANDIN)))
    run = start_run(archive, cluster)
    wait_until(lambda: archive.remembers(STANDIN, "second"))
    cluster.remove_node(second, allow_graceful=False)
    out, complaints = run.communicate(timeout=200)
    assert run.returncode == 3, complaints
    event = json.loads(out.splitlines()[-1])
    assert (event["outcome"], event["failures"], event["videos"]["indexed"]) == ("partial", {"E_NOT_MEDIA": 1}, 9)
    assert archive.dump() == expected

    noted = (archive.folder / "memory" / STANDIN / "gauges").read_text().splitlines()
    values = [(name, tags.pop("job"), *tags.values(), value) for name, tags, value in map(json.loads, noted)]
    assert {job for _, job, *_ in values} == {"test"}
    last: Samples = {(name, "".join(label)): value for name, _, *label, value in values}
    assert_says(last, event)
    assert max(value for name, _, *_, value in values if name == "indexer_queue_bytes") > 0
    assert ("indexer_run_state", "test", "running", 1.0) in values


def assert_says(samples: Samples, event: dict[str, Any]) -> None:
    """Ray's metrics say of a run that is over what its last event says."""
    for state, number in event["videos"].items():
        assert samples["indexer_videos", state] == number
    assert samples["indexer_failures", "E_NOT_MEDIA"] == 1
    states = {label: value for (name, label), value in samples.items() if name == "indexer_run_state"}
    assert states == {"running": 0, "complete": 0, "partial": 1, "stopped": 0, "failed": 0}
    assert samples["indexer_run_clips", ""] == event["clips"]
    assert samples["indexer_run_video_seconds", ""] == event["video_seconds"]
    assert samples["indexer_stage_seconds", "decode"] == event["stages"]["decode"] > 0
    assert samples["indexer_queue_bytes", ""] == 0
    assert time.time() - samples["indexer_last_success_timestamp_seconds", ""] < 300


@pytest.mark.skipif(importlib.util.find_spec("aiohttp_cors") is None, reason="only the nodes of ray[default] export metrics")
def test_prometheus_finds_the_figures_of_a_run_at_the_node_of_its_driver(archive: Customised, cluster: Cluster) -> None:
    url = f"http://127.0.0.1:{cluster.head_node.metrics_export_port}/metrics"
    run = start_run(archive, cluster)
    seen: list[Samples] = []

    def look() -> bool:
        seen.append(scrape(url))
        time.sleep(0.5)
        return run.poll() is not None

    wait_until(look)
    event = json.loads(run.communicate()[0].splitlines()[-1])
    assert any(samples.get(("indexer_run_state", "running")) == 1 for samples in seen)
    assert any(samples.get(("indexer_queue_bytes", ""), 0) > 0 for samples in seen)
    wait_until(lambda: scrape(url).get(("indexer_run_state", "partial")) == 1, seconds=10)
    assert_says(scrape(url), event)


def scrape(url: str) -> Samples:
    """Our metrics at a node, without the prefix that Ray gives them."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}  # it is starting
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (sample.name.removeprefix("ray_"), "".join(sample.labels.get(label, "") for label in LABELS)): sample.value
        for sample in samples
        if sample.labels.get("job") == "test"
    }


def test_machines_get_the_weights_from_the_driver_and_must_have_the_same_installed(tmp_path: Path, no_token: None) -> None:
    standin = "tiny_model_from_the_driver"
    archive = five_videos(Customised(tmp_path))
    checkpoint = tmp_path / "tiny.pth"
    torch.save(tiny(2, seconds=0.0).state_dict(), checkpoint)
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    environment = archive.environment(standin)
    archive.settings["model"] |= {"weights": "tiny.pth", "labels": "labels.txt"}
    archive.settings["sampling"]["segment"] = "500ms"
    alone = archive.command("run", str(archive.write_job(output={"uri": "alone"})), "--local", **environment)
    assert alone.returncode == 3, alone.stderr
    expected = archive.dump()

    cluster = Cluster(initialize_head=True, head_node_args=node("head", environment, cpus=0))
    try:
        cluster.add_node(**node("second", environment))
        cluster.add_node(**node("third", environment))
        cluster.wait_for_nodes()
        sections: dict[str, Any] = {"ray": {"address": "${RAY_ADDRESS:-}", "actors": [2, 2]}}
        job = str(archive.write_job(output={"uri": "index"}, **sections))
        spread = archive.command("run", job, "--json", **environment, RAY_ADDRESS=cluster.address)
        assert spread.returncode == 3, spread.stderr
        assert archive.dump() == expected
        assert not checkpoint.exists()
        memory = tmp_path / "memory" / standin
        built = {path.name for path in memory.glob("model-*")}
        assert built
        assert built <= {"model-second", "model-third"}  # the head has no CPUs

        torch.save(tiny(2, seconds=0.0).state_dict(), checkpoint)
        (tmp_path / "other" / "torch-1.2.3.dist-info").mkdir(parents=True)
        (tmp_path / "other" / "torch-1.2.3.dist-info" / "METADATA").write_text("Name: torch\nVersion: 1.2.3\n")
        other = {"PYTHONPATH": f"{tmp_path / 'other'}:{environment['PYTHONPATH']}"}
        cluster.add_node(**node("fourth", environment | other))
        differs = archive.command("run", job, "--json", **environment, RAY_ADDRESS=cluster.address)
        assert differs.returncode == 1, differs.stderr
        assert (
            "the same must be installed on all machines of the cluster, but: torch 1.2.3 on " in last_event(differs)["message"]
        )
    finally:
        cluster.shutdown()


def test_only_models_see_gpus_and_halve_their_batches_when_one_is_full(tmp_path: Path, no_token: None) -> None:
    archive = five_videos(Customised(tmp_path))
    archive.run(local=True, output={"uri": "undisturbed"})
    expected = archive.dump()
    cluster = Cluster(initialize_head=True, head_node_args=node("head", archive.environment("small_gpus")) | {"num_gpus": 2})
    try:
        ended = archive.run_with("small_gpus", output={"uri": "index"}, ray={"address": cluster.address, "actors": [2, 2]})
        assert ended.returncode == 3, ended.stderr
        assert archive.dump() == expected
        assert archive.remembers("small_gpus", "halved")
        memory = tmp_path / "memory" / "small_gpus"
        assert set((memory / "decoders").read_text().splitlines()) == {""}
        assert set((memory / "models").read_text().splitlines()) <= {"0", "1"}
        more = archive.run_with("small_gpus", output={"uri": "index2"}, ray={"actors": [3, 3]})
        assert more.returncode == 2
        assert "ray.gpus_per_actor: 3 models with 1 GPUs each, but Ray sees 2" in last_event(more)["message"]
    finally:
        cluster.shutdown()
