"""Who else hears how a run goes: the log beside the index, the metrics file, webhooks."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from indexer import pipeline, status_view
from indexer.catalog.connect import open_catalog
from indexer.catalog.lease import acquire
from indexer.config import Job, load_job
from indexer.errors import ConfigError, ExecutionError
from indexer.index import current_recipe, index_of
from indexer.observe import webhooks
from indexer.observe.metrics import MetricsFile
from indexer.observe.observed import observed
from indexer.observe.reports import KEPT
from indexer.observe.runlog import open_log
from indexer.observe.webhooks import Webhooks
from indexer.records import Outcome
from indexer.report import Tally
from indexer.serve.app import make_app
from indexer.serve.archive import Archive as Shown
from indexer.storage import open_storage
from tests.archives import Archive, Customised, Heard
from tests.postgres import Postgres
from tests.s3 import S3Place, Status
from tests.synthetic import TextArchive, TextReader

SECRET = "sesame-4711"


@dataclass
class Receiver:
    """A webhook's other side: answers with each of `answers` in turn, then with the last one for ever."""

    url: str
    answers: list[int]
    bodies: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.answers.pop(0) if len(found.answers) > 1 else found.answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}", [200])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def job(folder: Path, **monitor: Any) -> Job:
    path = folder / "job.yaml"
    settings = {"name": "nightly", "source": {"uri": "v"}, "model": {"name": "r3d_18"}, "monitor": monitor}
    path.write_text(yaml.safe_dump(settings))
    return load_job(path)


def run_observed(archive: TextArchive) -> Heard:
    """One run, with all that its job wants told."""
    heard, settings = Heard(), archive.job("nightly")
    pipeline.run(settings, TextReader, observed(settings, heard), pipeline.Options(), stopped=lambda: False)
    return heard


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def readable(name: str, content: bytes) -> str:
    """All that a file says, also where it is compressed."""
    if not name.endswith(".parquet"):
        return content.decode(errors="replace")
    table = pq.read_table(BytesIO(content))
    return f"{table.schema.metadata} {table.schema} {table.to_pylist()}"


def assert_no_secret(*texts: str) -> None:
    assert [text for text in texts if SECRET in text] == []


def samples(path: Path) -> dict[str, float]:
    """name, or name{last label} -> value"""
    return {
        sample.name + "".join(f" {value}" for key, value in sample.labels.items() if key != "job"): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_a_run_leaves_its_log_its_metrics_and_tells_the_webhook_and_no_secret_anywhere(
    tmp_path: Path, receiver: Receiver
) -> None:
    archive = Archive(tmp_path)
    archive.add("good.mp4")
    (archive.videos / "bad.mp4").write_bytes(b"no video at all")
    monitor = {
        "metrics": "m.prom",
        "notify": ["${HOOK}", "http://127.0.0.1:9/${HOOK_SECRET}"],
        "notify_on": ["start", "partial"],
    }
    path = archive.write_job(monitor=monitor)
    keys = {"AWS_SECRET_ACCESS_KEY": SECRET, "PGPASSWORD": SECRET, "HOOK_SECRET": SECRET}
    ended = archive.command("run", str(path), "--local", "--json", HOOK=receiver.url, **keys)
    assert ended.returncode == 3, ended.stderr

    (log,) = (tmp_path / "index" / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    by_event = {line["event"]: line for line in lines}
    assert "model.weights is random" in log.read_text()
    assert by_event["video_done"]["uri"] == str(archive.videos / "good.mp4")
    assert (by_event["video_failed"]["code"], by_event["video_failed"]["run_id"]) == ("E_NOT_MEDIA", 1)
    assert by_event["run_finished"]["videos"]["indexed"] == 1
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"]) for line in lines)

    metrics = samples(tmp_path / "m.prom")
    assert (metrics["indexer_videos indexed"], metrics["indexer_videos failed"]) == (1, 1)
    assert (metrics["indexer_failures E_NOT_MEDIA"], metrics["indexer_run_state partial"]) == (1, 1)
    assert time.time() - metrics["indexer_last_success_timestamp_seconds"] < 60

    assert [body["event"] for body in receiver.bodies] == ["run_started", "run_finished"]
    assert receiver.bodies[0]["text"] == "test: run 1 has begun: 2 of 2 videos to index"
    assert receiver.bodies[1]["text"].startswith(
        "test: run 1 is partial: 1 videos indexed, 0 unchanged, 1 failed, 0 left, in "
    )
    assert "the webhook at 127.0.0.1 was not told (monitor.notify): URLError" in ended.stdout
    assert json.loads(ended.stdout.splitlines()[-1])["event"] == "run_finished"
    assert "was not told" in log.read_text()

    assert_no_secret(ended.stdout, ended.stderr, *(readable(p.name, p.read_bytes()) for p in files_below(tmp_path)))


def test_secrets_that_are_in_use_are_written_nowhere(
    tmp_path: Path, s3: S3Place, postgres: Postgres, receiver: Receiver
) -> None:
    role = f"guarded_{uuid4().hex[:8]}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
    postgres.execute(f"CREATE DATABASE {role} OWNER {role}")
    ((rules,),) = postgres.execute("SHOW hba_file")
    Path(rules).write_text(f"local {role} {role} scram-sha-256\n" + Path(rules).read_text())
    postgres.execute("SELECT pg_reload_conf()")
    archive = Archive(tmp_path)
    s3.put("masters/a.mp4", archive.add("a.mp4", frames=30).read_bytes())
    s3.put("masters/bad.mp4", b"no video")
    archive.settings["output"] |= {"uri": f"{s3.uri}/index", "catalog": postgres.url(role, user=role)}
    path = archive.write_job(
        source={"uri": f"{s3.uri}/masters"}, monitor={"notify": ["${HOOK}"]}, schedule={"cron": "15 1 * * *"}
    )
    secrets = {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET, "PGPASSWORD": SECRET, "HOOK": receiver.url}
    secrets["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    done = archive.command("run", str(path), "--local", "--json", **secrets)
    assert done.returncode == 3, done.stderr
    s3.proxy.plan = lambda request: Status(403, "InvalidAccessKeyId")
    refused = archive.command("run", str(path), "--local", **secrets)
    assert refused.returncode == 12
    shut_out = archive.command("run", str(path), "--local", **secrets | {"PGPASSWORD": f"not {SECRET}"})
    assert shut_out.returncode == 13
    schedule = archive.command("schedule", str(path), "--as", "systemd", **secrets)

    objects = [readable(key, s3.get(key)) for key in s3.listed() if key.startswith("index/")]
    assert len(objects) == 4  # a part, a log, a report and its copy
    assert any("embedding" in text for text in objects)
    said = [text for ended in (done, refused, shut_out, schedule) for text in (ended.stdout, ended.stderr)]
    local = [readable(p.name, p.read_bytes()) for p in files_below(tmp_path)]
    assert_no_secret(*said, *objects, *local, postgres.dump(role), json.dumps(receiver.bodies))


def test_only_the_last_logs_are_kept(tmp_path: Path) -> None:
    settings = job(tmp_path)
    folder = tmp_path / "index" / "logs"
    folder.mkdir(parents=True)
    for number in range(40):
        (folder / f"20200101T0000{number:02}Z-1.jsonl").touch()
    log = open_log(settings, pytest.fail)
    assert log is not None
    log.close()
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == KEPT
    assert names[0] == "20200101T000011Z-1.jsonl"


def test_a_run_into_s3_leaves_its_log_and_its_page_there(
    tmp_path: Path, s3: S3Place, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    archive.put("a.mp4", [("bowling", 0.9)])
    heard = run_observed(archive)
    assert heard.warnings == []
    names = [key.removeprefix("index/") for key in s3.listed()]
    log, latest, page = (name for name in names if not name.startswith("parts/"))
    assert (latest, page) == ("reports/latest.html", "reports/run-1.html")
    storage = open_storage(f"{s3.uri}/index")
    with storage.open(log) as file:
        events = [json.loads(line) for line in file.read().splitlines()]
    assert [(event["event"], event["run_id"]) for event in events] == [
        ("note", None), ("run_started", 1), ("note", 1), ("video_done", 1), ("run_finished", 1)
    ]  # fmt: skip

    job, engine = index_of(archive.job_path("nightly"))
    with TestClient(make_app(Shown(job, engine, current_recipe(job, engine)), names=["testserver"])) as site:
        assert 'href="/runs/1.html"' in site.get("/runs").text
        assert "<h1>nightly: run 1, complete</h1>" in site.get("/runs/1.html").text
        assert site.get("/runs/2.html").status_code == 404
    engine.dispose()
    assert status_view.show_status(archive.job_path("nightly"), watch=False, max_age=None, as_json=False) == 0
    assert capsys.readouterr().out.endswith(f"report of run 1: {s3.uri}/index/reports/run-1.html\n")


def test_a_storage_that_takes_no_log_and_no_page_costs_two_warnings(tmp_path: Path, s3: S3Place) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    archive.put("a.mp4", [("bowling", 0.9)])
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if re.search("/(logs|reports)/", request.path) else None
    heard = run_observed(archive)
    assert heard.ended == "complete"
    page, log = heard.warnings
    assert len([key for key in s3.listed() if not key.startswith("index/parts/")]) == 0
    assert page.startswith(f"no report of this run can be kept: {s3.uri}/index/reports/run-1.html: ")
    assert log.startswith(f"no log of this run can be kept: {s3.uri}/index/logs/")


def test_old_logs_that_may_not_be_deleted_cost_a_warning_and_no_log(tmp_path: Path, s3: S3Place) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db", f"{s3.uri}/index")
    for number in range(KEPT):
        s3.put(f"index/logs/20200101T0000{number:02}Z-1.jsonl")
    s3.proxy.plan = lambda request: Status(403, "AccessDenied") if request.method == "DELETE" else None
    _, warning = run_observed(archive).warnings  # the first one: there are no videos
    assert warning.startswith(f"old files stay in {s3.uri}/index/logs: ")
    assert len(s3.listed()) == KEPT + 1


def test_a_log_that_cannot_be_kept_is_a_warning(tmp_path: Path) -> None:
    settings = job(tmp_path)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "logs").write_text("a file")
    heard: list[str] = []
    assert open_log(settings, heard.append) is None
    assert heard == [f"{tmp_path}/index/logs: no log of this run can be kept there: File exists"]


def test_metrics_remember_the_last_success_through_a_failed_run(tmp_path: Path) -> None:
    settings = job(tmp_path, metrics="m.prom")
    MetricsFile(settings, pytest.fail).finished(Tally(run_id=1), "complete")
    good = samples(tmp_path / "m.prom")["indexer_last_success_timestamp_seconds"]
    MetricsFile(settings, pytest.fail).failed("no space", 14)
    after = samples(tmp_path / "m.prom")
    assert (after["indexer_last_success_timestamp_seconds"], after["indexer_run_state failed"]) == (good, 1)


def test_a_bug_is_told_to_all_who_watch_and_keeps_its_traceback(tmp_path: Path, receiver: Receiver) -> None:
    archive = Customised(tmp_path)
    archive.add("a.mp4", frames=5)
    path = archive.write_job(monitor={"metrics": "m.prom", "notify": [receiver.url]})
    ended = archive.command("run", str(path), "--local", **archive.environment("writing_has_a_bug"))
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("ZeroDivisionError: a part of nothing")
    assert "Traceback" in ended.stderr
    (log,) = (tmp_path / "index" / "logs").iterdir()
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["outcome"], last["message"]) == ("failed", "a bug: ZeroDivisionError: a part of nothing")
    metrics = samples(tmp_path / "m.prom")
    assert (metrics["indexer_run_state failed"], metrics["indexer_run_state running"]) == (1, 0)
    assert (metrics["indexer_videos found"], metrics["indexer_videos indexed"]) == (1, 0)
    assert [(body["event"], body["exit_code"]) for body in receiver.bodies] == [("run_failed", 1)]


def test_a_run_that_is_refused_for_another_one_says_nothing_of_the_job(tmp_path: Path, receiver: Receiver) -> None:
    archive = Archive(tmp_path)
    path = archive.write_job(monitor={"metrics": "m.prom", "notify": [receiver.url]})
    settings = load_job(path)
    engine = open_catalog(settings.output.catalog, create=True)
    MetricsFile(settings, pytest.fail).started(Tally(run_id=1, found=7))
    before = (tmp_path / "m.prom").read_text()
    with acquire(engine, settings.name):
        assert archive.command("run", str(path), "--local").returncode == 11
    engine.dispose()
    assert (tmp_path / "m.prom").read_text() == before
    assert receiver.bodies == []


class ReaderThatBreaks(TextReader):
    def process(self, *_: Any, **__: Any) -> Iterator[Outcome | None]:
        raise ExecutionError("Ray itself is gone")


def test_those_who_watch_the_machines_see_a_run_fail_and_when_the_last_one_did_not(tmp_path: Path) -> None:
    archive = TextArchive(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    settings = archive.job("nightly")
    good, bad = TextReader(), ReaderThatBreaks()
    options = pipeline.Options()
    archive.put("a.mp4", [("bowling", 0.9)])
    pipeline.run(settings, lambda: good, Heard(), options, stopped=lambda: False)
    assert good.published["indexer_run_state"] == {"running": 0, "complete": 1, "partial": 0, "stopped": 0, "failed": 0}
    assert good.published["indexer_videos"]["indexed"] == 1

    archive.put("b.mp4", [("bowling", 0.9)])
    with pytest.raises(ExecutionError):
        pipeline.run(settings, lambda: bad, Heard(), options, stopped=lambda: False)
    assert bad.published["indexer_run_state"]["failed"] == 1
    last_success = "indexer_last_success_timestamp_seconds"
    assert bad.published[last_success][""] == pytest.approx(good.published[last_success][""], abs=1)


def test_metrics_that_cannot_be_written_are_said_once(tmp_path: Path) -> None:
    heard: list[str] = []
    metrics = MetricsFile(job(tmp_path, metrics="nowhere/m.prom"), heard.append)
    for _ in range(3):
        metrics.progress(Tally())
    assert heard == [f"{tmp_path}/nowhere/m.prom: the metrics cannot be written (monitor.metrics): No such file or directory"]


def test_a_webhook_that_fails_is_tried_again(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 200]
    Webhooks(job(tmp_path, notify=[receiver.url]), pytest.fail).finished(Tally(run_id=7), "complete")
    assert [body["run_id"] for body in receiver.bodies] == [7, 7, 7]


def test_a_webhook_that_refuses_costs_a_warning(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [403]
    heard: list[str] = []
    Webhooks(job(tmp_path, notify=[receiver.url]), heard.append).failed("the disk is full", 14)
    assert receiver.bodies[0]["text"] == "nightly: the run could not go on (exit code 14): the disk is full"
    assert heard == ["the webhook at 127.0.0.1 was not told (monitor.notify): it answers 403"]


def test_a_webhook_that_never_answers_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "GRACE_SECONDS", 0.5)
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hooks = Webhooks(job(tmp_path, notify=[f"http://127.0.0.1:{silent.getsockname()[1]}/x"]), heard.append)
        began = time.monotonic()
        hooks.finished(Tally(run_id=1), "partial")
        assert time.monotonic() - began < 3
    assert heard == ["a webhook did not answer within 0.5 s (monitor.notify)"]


def test_only_what_is_wanted_is_told(tmp_path: Path, receiver: Receiver) -> None:
    hooks = Webhooks(job(tmp_path, notify=[receiver.url], notify_on=["failed"]), pytest.fail)
    hooks.started(Tally(run_id=1))
    hooks.finished(Tally(run_id=1), "complete")
    assert receiver.bodies == []


def ask(job: Path, receiver: Receiver, max_age: str) -> tuple[int, str]:
    """Exit code and complaints of `indexer status --max-age`."""
    words = [sys.executable, "-m", "indexer", "status", str(job), "--max-age", max_age]
    ended = subprocess.run(words, env=os.environ | {"HOOK": receiver.url}, capture_output=True, text=True)
    return ended.returncode, ended.stderr


def test_a_job_that_stands_still_is_told_each_time_somebody_asks(tmp_path: Path, receiver: Receiver) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4")
    path = archive.write_job(monitor={"notify": ["${HOOK}"], "notify_on": ["stale"]})
    code, said = ask(path, receiver, "36h")
    assert code == 4
    sentence = f"stale: no run of test has ended well yet; run it: indexer run {path}"
    assert said == f"{sentence}\n"
    never = {"job": "test", "event": "stale", "last_success": None, "max_age_seconds": 129600.0, "text": f"test: {sentence}"}
    assert receiver.bodies == [never]

    assert archive.command("run", str(path), "--local", HOOK=receiver.url).returncode == 0
    assert ask(path, receiver, "36h") == (0, "")
    assert receiver.bodies == [never]

    time.sleep(1.1)
    receiver.answers = [200, 403]
    assert ask(path, receiver, "1s")[0] == 4
    code, said = ask(path, receiver, "1s")
    assert (code, said.splitlines()[1:]) == (4, ["the webhook at 127.0.0.1 was not told (monitor.notify): it answers 403"])
    first, *again = receiver.bodies[1:]
    assert time.time() - first["last_success"] < 60
    assert {body["last_success"] for body in again} == {first["last_success"]}


def test_a_job_that_stands_still_is_not_told_unless_its_job_says_so(tmp_path: Path, receiver: Receiver) -> None:
    path = Archive(tmp_path).write_job(monitor={"notify": ["${HOOK}"]})
    assert ask(path, receiver, "36h")[0] == 4
    assert receiver.bodies == []


@pytest.mark.parametrize("address", ["hooks.example.com/x", "ftp://host/x", "https://host"])
def test_what_is_no_webhook_is_refused_without_being_shown(tmp_path: Path, address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"monitor\.notify.*write for example https://hooks\.example\.com/\$\{HOOK\}"
    ) as error:
        job(tmp_path, notify=[address])
    assert address not in str(error.value)


@pytest.mark.parametrize("path", ["größe", "a b", "a\n"])
def test_a_webhook_with_letters_that_no_address_has_is_refused_without_being_shown(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"monitor\.notify.*such as %C3%BC for ü") as error:
        job(tmp_path, notify=[f"http://127.0.0.1/{path}"])
    assert path not in str(error.value)
