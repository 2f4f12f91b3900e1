"""What can be known of the containers without an engine that runs them."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
KUBERNETES = DOCKER / "kubernetes"

HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def instructions(word: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in DOCKERFILE.splitlines() if line.startswith(word + " ")]


def test_everything_that_is_copied_is_there_and_reaches_the_engine() -> None:
    sources = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert sources
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        path = ROOT / source
        assert path.exists(), source
        assert any(path.relative_to(ROOT).match(pattern) for pattern in kept), f".dockerignore keeps {source} out"


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ \n]+)", path.read_text(), flags=re.MULTILINE))


def test_the_image_has_the_packages_of_the_lock_and_what_ray_needs_to_take_jobs() -> None:
    image, ours = locked(DOCKER / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert {name: version for name, version in image.items() if ours.get(name, version) != version} == {}
    assert {"ray", "torch", "torchvision", "av", "psycopg-binary", "opentimelineio", "hatchling"} <= set(image)
    assert {"aiohttp", "aiohttp-cors", "grpcio"} <= set(image)  # ray[default]: the job server of a RayJob
    assert {"pytest", "moto", "mypy"} & set(image) == set()
    assert re.findall(r"\b(pip install|pip sync)\b(?!.*(--require-hashes|--no-deps|grep))", DOCKERFILE) == []


def test_what_containers_fetch_once_lies_in_a_volume() -> None:
    """Of the image's user: an anonymous or a new named volume takes over the owner that the folder has in the image."""
    volumes = {"/index", "/scratch", "/cache"}
    assert {name for line in instructions("VOLUME") for name in yaml.safe_load(line)} == volumes
    made = re.search(r"install --directory --owner=indexer ([^&\n]+)", DOCKERFILE)
    assert made is not None
    assert set(made[1].split()) == volumes
    assert re.search(r"XDG_CACHE_HOME=/cache\b", DOCKERFILE)


def test_images_are_pinned() -> None:
    images = [line.split()[0] for line in instructions("FROM")]
    own = {line.split(" AS ")[1] for line in instructions("FROM")}
    outside = {image for image in images if image not in own}
    outside |= {service["image"] for service in COMPOSE["services"].values() if "build" not in service}
    assert len(outside) == 3
    assert [image for image in outside if not re.search(r":[^:]*\d+[.-]\d+", image)] == []


def test_the_last_stages_compile_nothing_and_are_not_root() -> None:
    last = DOCKERFILE[DOCKERFILE.index(" AS cpu") :]
    assert re.findall(r"\b(gcc|build-essential|apt-get|pip install)\b", last) == []
    assert instructions("USER") == ["10001"]
    assert [line.split(" AS ")[1] for line in instructions("FROM")] == ["build", "cpu", "cuda"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_a_linter_has_nothing_against_the_dockerfile() -> None:
    done = subprocess.run([str(HADOLINT), DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_cluster_listens_on_loopback_and_asks_for_a_token() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    for name in ("head", "worker", "web", "job"):
        service = COMPOSE["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["shm_size"] == "4gb"
        assert service["init"] is True
    assert COMPOSE["services"]["job"]["profiles"] == ["job"]


def test_secrets_come_from_the_environment_that_the_example_lists() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    listed = {line.partition("=")[0] for line in (DOCKER / "example.env").read_text().splitlines() if "=" in line}
    assert set(re.findall(r"\$\{(\w+)", text)) == listed
    values = [value for service in COMPOSE["services"].values() for value in service["environment"].items()]
    named = [(name, value) for name, value in values if re.search("PASSWORD|TOKEN|SECRET", name)]
    assert named
    example = dict(line.split("=") for line in (DOCKER / "example.env").read_text().splitlines() if "=" in line)
    assert len(example["INDEXER_TOKEN"]) >= 16  # as `indexer serve` wants it
    assert [name for name, value in named if not value.startswith("${")] == []


def test_services_depend_on_services_that_say_when_they_are_well() -> None:
    conditions = set()
    for service in COMPOSE["services"].values():
        for name, need in service.get("depends_on", {}).items():
            other = COMPOSE["services"][name]
            conditions.add((need["condition"], name))
            if need["condition"] == "service_healthy":
                assert "healthcheck" in other or other["environment"].get("INDEXER_HEALTH"), name
    # The bucket's program waits for the storage by itself, ends, and is started again if it could not make the bucket.
    assert {need for need in conditions if need[0] != "service_healthy"} == {
        ("service_started", "storage"),
        ("service_completed_successfully", "bucket"),
    }
    assert COMPOSE["services"]["bucket"]["restart"] == "on-failure"


def test_everything_that_compose_mounts_and_names_is_there() -> None:
    for service in COMPOSE["services"].values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DOCKER / source).exists(), source
    services = COMPOSE["services"]
    for name in ("web", "job"):
        assert "/jobs/compose.yaml" in services[name]["command"]
        assert "../jobs:/jobs:ro" in services[name]["volumes"]
    for name in ("head", "worker", "web", "job"):
        assert "cache:/cache" in services[name]["volumes"]


def test_the_job_of_compose_is_a_job_with_the_environment_that_compose_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.config import load_job

    for name, value in COMPOSE["services"]["job"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{(\w+)[^}]*\}", "secret", value))
    job = load_job(ROOT / "jobs/compose.yaml")
    assert (job.source.uri, job.output.uri) == ("s3://archive/videos", "s3://archive/index")
    assert (job.output.catalog, job.ray.address) == ("postgresql+psycopg://indexer@database/indexer", "head:6379")
    hosts = {"head", "database", "storage"}
    assert hosts <= set(COMPOSE["services"])


def test_the_docker_commands_that_are_shown_name_what_is_there() -> None:
    shown = [*(DOCKER / "compose.yaml").read_text().splitlines(), *(ROOT / "docs/containers.md").read_text().splitlines()]
    lines = [found[1] for line in shown if (found := re.match(r"(?:#  |\$) +(docker .*)", line))]
    assert len(lines) == 5
    stages = {line.split(" AS ")[1] for line in instructions("FROM")}
    for line in lines:
        words = line.split()
        for before, word in itertools.pairwise(words):
            assert before != "-f" or (ROOT / word).is_file(), word
            assert before != "--target" or word in stages, word
        if "compose" in words:
            command = words[6:]  # docker compose -f FILE --env-file FILE
            service = words[-1] if command[-1] == "bucket" else "job" if command[0] == "run" else command[-1].partition("=")[0]
            assert service in COMPOSE["services"], line
        for job in re.findall(r" run /(jobs/\S+)", line):
            assert (ROOT / job).is_file(), job


def test_the_job_of_compose_joins_the_cluster_before_it_runs(programs: dict[str, str]) -> None:
    """A driver reaches Ray only through a node on its own machine, which here is its own container."""
    service = COMPOSE["services"]["job"]
    words = [word.replace("$$", "$") for word in service["entrypoint"]]
    done = subprocess.run([*words, *service["command"]], env=programs, capture_output=True, text=True, check=True)
    assert done.stdout == "indexer run /jobs/compose.yaml\n"
    assert done.stderr.startswith("ray start --address=head:6379 --num-cpus=0 ")


def test_the_kubernetes_files_are_what_the_program_makes_of_their_job(tmp_path: Path) -> None:
    """`make schemas` writes them anew."""
    secrets = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"), "x")
    words = ["schedule", "docker/kubernetes/archive.yaml", "--as", "kubernetes", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "indexer", *words, "--image", "registry.example.com/indexer:cuda-1"]
    subprocess.run(command, cwd=ROOT, env=secrets, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} | {"archive.yaml"} == {path.name for path in KUBERNETES.iterdir()}
    for path in tmp_path.iterdir():
        assert (KUBERNETES / path.name).read_text() == path.read_text()


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """A PATH on which the programs of the image say how they were called."""
    for name in ("indexer", "ray", "python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["run", "/jobs/a.yaml"], "indexer run /jobs/a.yaml"),
        (["--help"], "indexer --help"),
        (["ray", "start", "--head"], "ray start --head"),
    ],
)
def test_the_entry_point_runs_the_indexer_or_a_program(programs: dict[str, str], arguments: list[str], called: str) -> None:
    done = subprocess.run([DOCKER / "entrypoint.sh", *arguments], env=programs, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == called


@pytest.mark.parametrize(
    ("health", "called"),
    [
        ("", "indexer --version"),
        ("ray", "ray status --address head:6379"),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765/"),
    ],
)
def test_the_health_check_asks_what_the_container_is_for(programs: dict[str, str], health: str, called: str) -> None:
    environment = programs | {"INDEXER_HEALTH": health, "RAY_ADDRESS": "head:6379"}
    done = subprocess.run([DOCKER / "healthcheck.sh"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(called)
