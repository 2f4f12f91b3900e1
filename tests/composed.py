"""docker/compose.yaml without Docker: its services, each in namespaces of its own. Root runs it: `make compose-steps`.

As containers have, each service has an address, names by DNS, and processes, /tmp/ray and /dev/shm that no other sees. That
shows what one machine hides: who reaches whom by which name, and that a driver needs a node of Ray beside it. The packages are
those of this environment, the S3 server is moto, the catalog an SQLite file, the model a small one without weights.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.videos import pattern, write_video

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SECRETS = dict(line.split("=") for line in (ROOT / "docker/example.env").read_text().splitlines() if "=" in line)
ADDRESSES = {name: f"10.9.0.{number}" for number, name in enumerate(COMPOSE["services"], start=2)}
HERE = "10.9.0.1"
ENTRY, HEALTH = str(ROOT / "docker/entrypoint.sh"), str(ROOT / "docker/healthcheck.sh")
SMALL = "\nsampling: {segment: 1s, frames: 2}\n"


def sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


def make_network(folder: Path) -> None:
    """A bridge, with a network namespace for each service, and a server that knows their names."""
    sh(f"ip link set lo up; ip link add bridge0 type bridge; ip addr add {HERE}/24 dev bridge0; ip link set bridge0 up")
    sh("mkdir -p /run/netns; mount -t tmpfs none /run/netns")
    for name, address in ADDRESSES.items():
        sh(
            f"ip netns add {name}; ip link add to-{name} type veth peer name e0 netns {name};"
            f"ip link set to-{name} master bridge0 up;"
            f"ip -n {name} addr add {address}/24 dev e0; ip -n {name} link set e0 up; ip -n {name} link set lo up"
        )
    (folder / "resolv.conf").write_text(f"nameserver {HERE}\n")
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind((HERE, 53))
    threading.Thread(target=_answer_names, args=(door,), daemon=True).start()


def _answer_names(door: socket.socket) -> None:
    """As Docker's own DNS does: an address for a service, nothing for other kinds of questions, no such name for others."""
    while True:
        question, asker = door.recvfrom(512)
        end, labels = 12, []
        while length := question[end]:
            labels.append(question[end + 1 : end + 1 + length].decode())
            end += length + 1
        address = ADDRESSES.get(".".join(labels))
        is_address = address is not None and question[end + 1 : end + 3] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + socket.inet_aton(address or HERE) if is_address else b""
        header = (
            question[:2] + (b"\x81\x83" if address is None else b"\x81\x80") + b"\0\1\0" + bytes([is_address]) + b"\0\0\0\0"
        )
        door.sendto(header + question[12 : end + 5] + answer, asker)


def start(folder: Path, service: str, *words: str) -> subprocess.Popen[bytes]:
    """WORDS in the place of a service, with the environment that compose gives it. What it says goes to SERVICE.log."""
    given = COMPOSE["services"][service].get("environment", {})
    environment = {name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: SECRETS[found[1]], value) for name, value in given.items()}
    environment |= {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    environment |= {"CATALOG": f"sqlite:///{folder}/catalog.db", "INDEXER_SCRATCH": str(folder)}
    inside = (
        f"mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray; mount -t tmpfs none /dev/shm; hostname {service};"
        f'mount --bind {folder}/hosts /etc/hosts; mount --bind {folder}/resolv.conf /etc/resolv.conf; exec "$@"'
    )
    apart = ("unshare", "--mount", "--propagation=private", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    with (folder / f"{service}.log").open("ab") as log:
        command = ("ip", "netns", "exec", service, *apart, "sh", "-ec", inside, service, *words)
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@contextmanager
def service(folder: Path, name: str, *words: str) -> Iterator[None]:
    process = start(folder, name, *words)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def words_of(service: str, part: str = "command") -> list[str]:
    """As compose says, with a store of objects that fits here."""
    words = COMPOSE["services"][service][part]
    return [re.sub(r"(object-store-memory)=\d+", r"\1=200000000", word.replace("$$", "$")) for word in words]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 90
    while not is_so():
        if time.monotonic() > give_up:
            raise SystemExit(f"{what} does not come")
        time.sleep(1)
    print(what, flush=True)


def demonstrate(folder: Path) -> None:
    make_network(folder)
    for number in range(3):
        write_video(folder / f"videos/v{number}.mp4", frames=75, picture=lambda n, first=number * 9: pattern(n + first))
    text = (ROOT / "jobs/compose.yaml").read_text().replace("mvit_v2_s", "r3d_18").replace("KINETICS400_V1", "random")
    job = folder / "compose.yaml"
    job.write_text(text + SMALL)

    def ends_well(name: str, *words: str) -> bool:
        return start(folder, name, *words).wait(240) == 0

    with ExitStack() as started:
        started.enter_context(service(folder, "storage", f"{BIN}/python", "-m", "moto.server", "-H", "0.0.0.0", "-p", "9000"))
        bucket = str(ROOT / "docker/bucket.py")
        wait_until(lambda: ends_well("bucket", ENTRY, "python", bucket, f"{folder}/videos"), "the bucket, with three videos")
        started.enter_context(service(folder, "head", ENTRY, *words_of("head")))
        wait_until(lambda: ends_well("head", HEALTH), "the head, healthy")
        started.enter_context(service(folder, "worker", ENTRY, *words_of("worker")))
        wait_until(lambda: ends_well("worker", HEALTH), "the worker, healthy")
        serve = [word.replace("/jobs/compose.yaml", str(job)) for word in words_of("web")]
        started.enter_context(service(folder, "web", ENTRY, *serve))
        wait_until(lambda: ends_well("web", HEALTH), "the page before the first run, healthy")
        run = [*words_of("job", "entrypoint"), "run", str(job)]
        done = ends_well("job", *run)
        said = (folder / "job.log").read_text()
        if not done or "3  indexed: 9 segments" not in said:
            raise SystemExit(f"the job did not end well:\n{said[-3000:]}")
        print("the job: three videos indexed", flush=True)
        wait_until(lambda: ends_well("web", HEALTH), "the page after it, healthy")


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("only root may make network namespaces")
    if sys.argv[1:] != ["inside"]:
        apart = ["unshare", "--net", "--mount", "--propagation=private"]
        sys.exit(subprocess.run([*apart, sys.executable, "-m", "tests.composed", "inside"], cwd=ROOT).returncode)
    with tempfile.TemporaryDirectory(prefix="i") as name:
        demonstrate(Path(name))


if __name__ == "__main__":
    main()
