"""Whole runs on a bucket: videos in, parts out, found by a search; what expires, fails and changes meanwhile."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.config import Model, load_job
from indexer.errors import SourceError, WeightsError
from indexer.infer.weights import read_labels, resolve_weights, weights_identity
from indexer.storage import open_storage
from indexer.storage.s3.client import connection
from indexer.upkeep.sweep import sweep
from tests.archives import Archive, last_event
from tests.s3 import Cut, Fault, Request, Reset, S3Place, Status

NAMES = ("a.mp4", "b & c.mkv", "deep/d.mp4")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The same videos on a disk, indexed: what a run on a bucket must find too."""
    archive = Archive(tmp_path_factory.mktemp("local"))
    for number, name in enumerate(NAMES):
        archive.add(name, first=20 * number)
    assert archive.run().ended == "complete"
    return archive


@pytest.fixture
def archive(s3: S3Place, local: Archive, tmp_path: Path) -> Archive:
    for name in NAMES:
        s3.put(f"masters/{name}", (local.videos / name).read_bytes())
    archive = Archive(tmp_path)
    archive.settings["source"]["uri"] = f"{s3.uri}/masters/"
    archive.settings["output"] |= {"uri": f"{s3.uri}/index", "catalog": "sqlite:///catalog.db"}
    return archive


def results(archive: Archive) -> dict[str, Any]:
    """Name of each video -> everything that the index says of it, except where it lies and which bytes it has."""
    dump = [(result["uri"].split("/masters/")[-1].removeprefix("/videos/"), result) for result in archive.dump()]
    return {name: {key: result[key] for key in ("state", "code", "segments", "clips", "rows")} for name, result in dump}


def test_workers_on_ray_read_from_s3_too(archive: Archive, local: Archive) -> None:
    ended = archive.command("run", str(archive.write_job()), "--json")
    assert ended.returncode == 0, ended.stderr
    assert results(archive) == results(local)


def test_an_archive_in_s3_is_indexed_into_s3_and_found(s3: S3Place, archive: Archive, local: Archive) -> None:
    assert archive.run().videos["indexed"] == 3
    assert results(archive) == results(local)
    storage = open_storage(f"{s3.uri}/index")
    [part] = storage.list_files("parts/")
    with storage.open(part.name) as file:
        table = pq.read_table(file)
    assert sorted(set(table["uri"].to_pylist())) == [f"{s3.uri}/masters/{name}" for name in NAMES]
    label = table["labels"].to_pylist()[0][0]
    found = {moment["uri"] for moment in archive.search(label)["moments"]}
    assert found <= {f"{s3.uri}/masters/{name}" for name in NAMES}
    below = {moment["uri"] for moment in archive.search(label, "--under", f"{s3.uri}/masters/deep/")["moments"]}
    assert below == {uri for uri in found if "/deep/" in uri}
    assert found
    assert not list(archive.folder.glob("indexer-scratch-*/copy-*"))


def test_a_second_run_reads_nothing_and_changes_are_followed(s3: S3Place, archive: Archive, local: Archive) -> None:
    first = archive.run().tally
    assert first is not None
    assert first.fetched_bytes == first.fetched_of_bytes == sum((local.videos / name).stat().st_size for name in NAMES)
    s3.proxy.requests.clear()
    second = archive.run()
    assert second.videos["unchanged"] == 3
    assert second.tally is not None
    assert second.tally.fetched_bytes == 0
    assert [request.key for request in s3.proxy.requests if request.is_body] == []
    s3.put("masters/a.mp4", (local.videos / NAMES[1]).read_bytes())
    s3.delete(f"masters/{NAMES[2]}")
    assert archive.run().videos == {
        "found": 2, "indexed": 1, "unchanged": 1, "failed": 0, "skipped": 0, "gone": 1, "left": 0
    }  # fmt: skip
    assert results(archive)["a.mp4"]["rows"] == results(local)[NAMES[1]]["rows"]


def test_a_storage_with_bad_moments_gives_the_same_index(s3: S3Place, archive: Archive, local: Archive) -> None:
    dice = random.Random(3)
    faults: list[Fault] = [Status(503, "SlowDown"), Status(500, "InternalError"), Reset(), Cut()]
    s3.proxy.plan = lambda request: dice.choice(faults) if dice.random() < 0.3 else None
    assert archive.run().ended == "complete"
    assert results(archive) == results(local)


def test_one_key_that_may_not_be_read_costs_one_video(s3: S3Place, archive: Archive, local: Archive) -> None:
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.is_body and "a.mp4" in request.key else None
    assert archive.run().videos == {
        "found": 3, "indexed": 2, "unchanged": 0, "failed": 1, "skipped": 0, "gone": 0, "left": 0
    }  # fmt: skip
    assert (results(archive)["a.mp4"]["state"], results(archive)["a.mp4"]["code"]) == ("failed", "E_ACCESS")
    s3.proxy.reset()
    assert archive.run(retry_failed=True).ended == "complete"
    assert results(archive) == results(local)


def test_a_run_needs_no_right_to_delete(s3: S3Place, archive: Archive, local: Archive) -> None:
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.method == "DELETE" else None
    heard = archive.run(range_seconds=1)
    assert (heard.ended, heard.videos["indexed"], len(heard.outcomes)) == ("complete", 3, 3)
    assert results(archive) == results(local)
    [warning] = heard.warnings
    assert warning.startswith("finished ranges of long videos stay in staging/ until `indexer gc` deletes them: s3://bucket-")
    storage = open_storage(f"{s3.uri}/index")
    assert len(list(storage.list_files("staging/"))) == 3  # one of the two ranges of each
    s3.proxy.reset()
    engine = open_catalog(str(load_job(archive.job_path).output.catalog), create=False)
    assert engine is not None
    with acquire(engine, "test") as lease:
        swept = sweep(engine, lease.token, storage, grace_seconds=0.0, dry_run=False, force=False)
    engine.dispose()
    assert [one.kind for one in swept] == ["staged"] * 3


def test_credentials_that_end_during_a_run_are_nobodys_fault(s3: S3Place, archive: Archive, local: Archive) -> None:
    for number in range(5):
        s3.put(f"masters/{number}.mp4", (local.videos / "a.mp4").read_bytes())
    read: set[str] = set()

    def plan(request: Request) -> Fault | None:
        if request.is_body:
            read.add(request.key)
        return Status(400, "ExpiredToken") if len(read) > 5 else None

    def states() -> dict[str, str]:
        return {name: result["state"] for name, result in results(archive).items()}

    s3.proxy.plan = plan
    ended = archive.command("run", str(archive.write_job(output={"uri": "index"})), "--local", "--json")
    assert (ended.returncode, last_event(ended)["outcome"]) == (12, "failed")
    assert "S3 does not accept the credentials: planned ExpiredToken" in last_event(ended)["message"]
    kept = {name for name, state in states().items() if state == "indexed"}
    assert 1 <= len(kept) <= 5
    assert {state for name, state in states().items() if name not in kept} == {"pending"}

    s3.proxy.reset()
    heard = archive.run()
    assert (heard.ended, heard.videos["unchanged"], heard.videos["indexed"]) == ("complete", len(kept), 8 - len(kept))
    expected = results(local)
    assert results(archive) == expected | {f"{number}.mp4": expected["a.mp4"] for number in range(5)}


@pytest.fixture
def impatient(s3: S3Place) -> Iterator[None]:
    """The connection of this process does not wait for a minute."""
    ours = connection()
    before, ours.patience = ours.patience, s3.hasty.patience
    yield
    ours.patience = before


@pytest.mark.usefixtures("impatient")
def test_a_storage_that_stops_answering_ends_the_run_and_no_video_is_blamed(
    s3: S3Place, archive: Archive, local: Archive
) -> None:
    for number in range(5):
        s3.put(f"masters/{number}.mp4", (local.videos / "a.mp4").read_bytes())
    read: set[str] = set()

    def plan(request: Request) -> Fault | None:
        if request.is_body:
            read.add(request.key)
        return Status(503, "ServiceUnavailable") if len(read) > 5 else None

    s3.proxy.plan = plan
    with pytest.raises(SourceError, match=r"does not answer any more: planned .* no video was blamed") as caught:
        archive.run(output={"uri": "index"})
    assert caught.value.exit_code == 10
    states = Counter(result["state"] for result in results(archive).values())
    assert states.keys() == {"indexed", "pending"}
    s3.proxy.reset()
    heard = archive.run()
    assert (heard.ended, heard.videos["unchanged"]) == ("complete", states["indexed"])


@pytest.mark.usefixtures("impatient")
def test_an_object_that_could_not_be_had_is_tried_again_by_the_next_run(s3: S3Place, archive: Archive, local: Archive) -> None:
    s3.proxy.plan = lambda request: Reset() if request.is_body and "a.mp4" in request.key else None
    heard = archive.run()
    assert (heard.ended, heard.videos["indexed"], heard.videos["failed"]) == ("partial", 2, 1)
    assert results(archive)["a.mp4"]["code"] == "E_SOURCE"
    s3.proxy.reset()
    assert archive.run().videos["indexed"] == 1
    assert results(archive) == results(local)


def test_a_video_that_leaves_during_a_run_is_gone(s3: S3Place, archive: Archive) -> None:
    def plan(request: Request) -> None:
        if request.is_body and "a.mp4" in request.key:
            s3.delete("masters/a.mp4")

    s3.proxy.plan = plan
    heard = archive.run()
    assert (heard.ended, heard.videos["indexed"], heard.videos["skipped"]) == ("complete", 2, 1)
    assert results(archive)["a.mp4"]["code"] == "gone"


@pytest.fixture(params=["copied", "by blocks"])
def read_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small videos, read as large ones are, which are replaced when some of their bytes have been decoded."""
    if request.param == "by blocks":
        monkeypatch.setattr("indexer.storage.s3.video.COPY_BYTES", 0)
        monkeypatch.setattr("indexer.storage.s3.blocks.BLOCK_BYTES", 2048)
    return str(request.param)


def is_read_on(request: Request, read_as: str) -> bool:
    """Whether a.mp4 is asked for; by blocks: not for its first one."""
    begins = request.headers.get("range", "bytes=0-").startswith("bytes=0-")
    return request.is_body and "a.mp4" in request.key and begins == (read_as == "copied")


def test_an_object_that_is_replaced_during_a_run_is_indexed_as_it_is_then(
    s3: S3Place, archive: Archive, local: Archive, read_as: str
) -> None:
    changes = iter([(local.videos / NAMES[1]).read_bytes()])

    def plan(request: Request) -> None:
        if is_read_on(request, read_as):
            for content in changes:
                s3.put("masters/a.mp4", content)

    s3.proxy.plan = plan
    assert archive.run().videos["indexed"] == 3
    assert not list(changes)
    assert results(archive)["a.mp4"] == results(local)[NAMES[1]]
    assert archive.run().videos["unchanged"] == 3


def test_a_long_video_that_is_replaced_while_it_is_decoded_in_ranges_is_done_anew(
    s3: S3Place, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.storage.s3.video.COPY_BYTES", 0)
    whole = Archive(tmp_path / "whole")
    before, after = (whole.add(f"{n}.mp4", first=n, frames=100, fps=5, gop=5).read_bytes() for n in (0, 40))
    whole.run()
    s3.put("long/masters/1.mp4", before)
    opened = []

    def plan(request: Request) -> None:
        if request.is_body:
            opened.append(request)
            if len(opened) == 3:  # the first was to plan the ranges
                s3.put("long/masters/1.mp4", after)

    s3.proxy.plan = plan
    heard = archive.run(range_seconds=5.0, source={"uri": f"{s3.uri}/long/masters/"})
    assert (heard.ended, heard.videos["indexed"]) == ("complete", 1)
    assert results(archive)["1.mp4"] == results(whole)["40.mp4"]
    assert len(opened) > 3


def test_an_object_that_is_replaced_all_the_time_waits_for_the_next_run(
    s3: S3Place, archive: Archive, local: Archive, read_as: str
) -> None:
    contents = cycle([(local.videos / name).read_bytes() for name in NAMES[1:]])

    def plan(request: Request) -> None:
        if is_read_on(request, read_as):
            s3.put("masters/a.mp4", next(contents))

    s3.proxy.plan = plan
    heard = archive.run()
    assert (heard.ended, heard.videos["indexed"], heard.videos["failed"]) == ("partial", 2, 1)
    assert results(archive)["a.mp4"]["code"] == "E_CHANGED"
    s3.proxy.reset()
    s3.put("masters/a.mp4", (local.videos / "a.mp4").read_bytes())
    assert archive.run().ended == "complete"
    assert results(archive) == results(local)


# Weights


def test_weights_and_labels_in_s3_are_fetched_once_for_each_version(
    s3: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    s3.put("mine.pth", b"first")
    s3.put("labels.txt", b"running\nwalking\n")
    model = Model(name="r3d_18", weights=f"{s3.uri}/mine.pth", labels=f"{s3.uri}/labels.txt")
    first = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"
    weights = resolve_weights(model)
    assert (weights.sha256, weights_identity(model)) == (first, first)
    assert Path(str(weights.path)).read_bytes() == b"first"
    assert read_labels(model.labels) == ("running", "walking")
    assert [request.method for request in s3.proxy.requests if request.key == "mine.pth"] == ["HEAD", "GET", "HEAD"]
    s3.put("mine.pth", b"second")
    assert Path(str(resolve_weights(model).path)).read_bytes() == b"second"
    with pytest.raises(WeightsError, match=r"model.weights: s3://bucket-\w+/other.pth cannot be read: .*Not Found"):
        resolve_weights(Model(name="r3d_18", weights=f"{s3.uri}/other.pth"))


def test_a_job_without_s3_never_loads_boto3() -> None:
    code = (
        "import sys, indexer.cli, indexer.pipeline, indexer.storage.fetch, indexer.plan.listing, indexer.decode.unit;"
        "print({'boto3', 'botocore', 'urllib3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
