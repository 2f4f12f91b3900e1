"""When a job runs, and the files that make a scheduler run it then."""

import json
import os
import re
import shutil
import subprocess
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.config import load_job
from indexer.errors import ConfigError, OutputError
from indexer.recipe import make_recipe
from indexer.schedule.command import Command
from indexer.schedule.kubernetes import cron_job
from indexer.schedule.systemd import calendars
from indexer.schedule.times import cron_text, next_times, portable, time_zone, times_of
from indexer.schedule_view import Scheduler, show_schedule
from tests.archives import Archive
from tests.kubernetes import mistakes

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
BEGIN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path)
    archive.write_job(schedule={"cron": "15 1 * * *", "time_zone": "Europe/Berlin"}, ray={"address": "auto"})
    return archive


def files(
    archive: Archive, scheduler: Scheduler, *, folder: Path | None = None, image: str = "indexer:latest"
) -> dict[str, str]:
    """File name -> text."""
    out = StringIO()
    with redirect_stdout(out):
        show_schedule(archive.job_path, scheduler, folder=folder, image=image, as_json=True)
    texts: dict[str, str] = json.loads(out.getvalue())["files"]
    return texts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("01:15", '"01:15" is a time, not a cron expression; write 15 1 * * *'),
        ("@daily", '"@daily" is not understood by all schedulers; write 0 0 * * *'),
        (5, "5 is not a cron expression; write for example 15 1 * * * for every night at 01:15"),
        ("0 15 1 * * *", "has 6 fields where five are needed"),
        ("0 15 1 * * *", "without seconds: 15 1 * * *"),
        ("15 24 * * *", '"15 24 * * *": 24 is not possible for the hour; allowed: 0 to 23'),
        ("15 1 * * MONDAY", "did you mean 'MON'? allowed: 0 to 7 or SUN to SAT"),
        ("15 1 * * FRI-MON", "fri-mon is the wrong way round for the day of the week"),
        ("5/15 * * * *", "5/15 is read differently by different programs; write 5-59/15"),
        ("0 1 */2 * MON", "a star with a step, beside a second field of days"),
        ("0 1 30 2 *", '"0 1 30 2 *" never happens: no such month has such a day'),
        ("1,,3 * * * *", "an empty item is not possible for the minute"),
        ("*/0 * * * *", "/0 is not a step for the minute"),
        ("0 1 L * *", "l is not possible for the day of the month; allowed: 1 to 31"),
    ],
)
def test_what_is_not_a_schedule_gets_a_sentence(text: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        cron_text(text)


@pytest.mark.parametrize(
    ("name", "question"), [("Europe/Berln", "Europe/Berlin"), ("new york", "America/New_York"), ("tokio", "Asia/Tokyo")]
)
def test_a_misspelt_time_zone_is_recognised(name: str, question: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{question}'"):
        time_zone(name)


def test_a_wrong_schedule_is_told_with_its_line(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: a\nsource: {uri: v}\nmodel: {name: s3d}\nschedule:\n  cron: 15 1 * *\n  timezone: UTC\n")
    with pytest.raises(ConfigError) as caught:
        load_job(job)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f'{job}:5 schedule.cron: "15 1 * *" has 4 fields where five are needed')
    assert second.startswith(f"{job}:6 schedule.timezone: not a key of schedule; did you mean 'time_zone'?")


def test_the_next_times_are_those_of_the_zone_also_when_clocks_change() -> None:
    saturday = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    found = [time.isoformat() for time in next_times("15 1 * * *", "Europe/Berlin", saturday, 2)]
    assert found == ["2026-10-25T01:15:00+02:00", "2026-10-26T01:15:00+01:00"]


def test_a_schedule_is_no_part_of_the_recipe(archive: Archive) -> None:
    before = make_recipe(load_job(archive.job_path)).digest
    archive.write_job(schedule={"cron": "0 5 * * 1"})
    assert make_recipe(load_job(archive.job_path)).digest == before


def test_plan_shows_the_next_three_times(archive: Archive) -> None:
    archive.add("a.mp4")
    document = json.loads(archive.command("plan", str(archive.job_path), "--json").stdout)
    times = [datetime.fromisoformat(text) for text in document["next_runs"]]
    assert [(time.hour, time.minute) for time in times] == [(1, 15)] * 3
    assert times == sorted(times)
    assert times[0] > datetime.now().astimezone()
    shown = archive.command("plan", str(archive.job_path)).stdout.splitlines()[-1]
    assert shown == f"scheduled for: {', '.join(f'{time:%a %Y-%m-%d %H:%M}' for time in times)} (Europe/Berlin)"


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    """Lists of numbers, ranges and steps of one field."""
    number = st.integers(least, most)
    span = st.tuples(number, number, st.integers(1, 5)).map(lambda drawn: f"{min(drawn[:2])}-{max(drawn[:2])}/{drawn[2]}")
    return st.just("*") | st.lists(number.map(str) | span, min_size=1, max_size=3).map(",".join)


expressions = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 7)).map(" ".join)


@given(expressions)
@settings(max_examples=200)
def test_portable_means_the_same(text: str) -> None:
    assert times_of(portable(cron_text(text))) == times_of(text)
    assert "7" not in portable(text).split()[4].partition("/")[0]


def test_portable_spells_names_as_numbers() -> None:
    assert portable("0 1 * jan-mar,DEC mon-FRI") == "0 1 * 1-3,12 1-5"
    assert portable("0 1 * * SUN") == "0 1 * * 0"


@systemd
@given(expressions)
@settings(max_examples=75)
def test_systemd_is_told_the_same_times(text: str) -> None:
    """All elapses of the OnCalendar lines together, as systemd itself computes them, are those of the cron expression."""
    begin = ["--base-time", f"{BEGIN:%Y-%m-%d %H:%M:%S} UTC", "--iterations", "6"]
    told = subprocess.run(
        ["systemd-analyze", "calendar", *begin, *calendars(text, "UTC")], capture_output=True, text=True, check=True
    ).stdout
    elapses = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", told)
    ours = [f"{time:%Y-%m-%d %H:%M:%S}" for time in islice(CronSim(text, BEGIN), 6)]
    assert sorted(set(elapses))[:6] == ours


@systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    folder = tmp_path / "100% of $it"
    folder.mkdir()
    archive = Archive(folder)
    archive.write_job(schedule={"cron": "15 1 1,15 * MON-FRI", "time_zone": "Europe/Berlin"})
    units = tmp_path / "units"
    units.mkdir()
    assert set(files(archive, "systemd", folder=units)) == {"indexer-test.service", "indexer-test.timer"}
    timer = (units / "indexer-test.timer").read_text()
    assert "OnCalendar=*-*-01,15 01:15:00 Europe/Berlin\n" in timer
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 01:15:00 Europe/Berlin\n" in timer
    assert "Persistent=true\n" in timer
    service = (units / "indexer-test.service").read_text()
    assert "KillMode=mixed\n" in service
    assert f'run "{tmp_path}/100%% of $$it/job.yaml"\n' in service
    assert f'ReadWritePaths="{tmp_path}/100%% of $it/index"\n' in service
    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units.iterdir())], capture_output=True, text=True, timeout=60
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_a_systemd_service_may_write_all_that_its_job_writes(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write_job(monitor={"metrics": "/var/lib/node_exporter/a.prom"}, output={"catalog": "sqlite:////srv/catalogs/a.db"})
    for name, folder in (("INDEXER_SCRATCH", "/fast"), ("XDG_CACHE_HOME", "~/cached"), ("TORCH_HOME", "/srv/weights")):
        monkeypatch.setenv(name, folder)
    service = files(archive, "systemd")["indexer-test.service"]
    writable = [line.removeprefix("ReadWritePaths=") for line in service.splitlines() if line.startswith("ReadWritePaths=")]
    assert writable == [
        f"{archive.folder}/index", "/srv/catalogs", "/var/lib/node_exporter", "/fast", f"{Path.home()}/cached", "/srv/weights",
        f"{Path.home()}/.ray",
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_the_crontab_line_runs_the_job_with_a_lock_and_a_log(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "100% of it")
    archive.add("a.mp4")
    archive.write_job(schedule={"cron": "15 1 * * SUN", "time_zone": "Europe/Berlin"}, source={"min_age": "1d"})
    line = files(archive, "cron")["indexer-test.crontab"].splitlines()[-1]
    *when, command = line.split(" ", 5)
    assert when == ["15", "1", "*", "*", "0"]
    home = tmp_path / "home"
    environment = os.environ | {"HOME": str(home)}
    words = ["sh", "-c", command.replace(r"\%", "%")]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert "1  videos found" in (home / ".local/state/indexer/test.log").read_text()
    lock = str(home / ".local/state/indexer/test.lock")
    held = subprocess.run(["flock", lock, *words], env=environment, timeout=60)
    assert held.returncode == 11


def by_kind(text: str) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(text) if document["kind"] != "ConfigMap"}


def ray_job_of(text: str) -> dict[str, Any]:
    """The RayJob inside the ConfigMap that the CronJob's pod submits."""
    maps = [document["data"] for document in yaml.safe_load_all(text) if document["kind"] == "ConfigMap"]
    job: dict[str, Any] = yaml.safe_load(next(data["rayjob.yaml"] for data in maps if "rayjob.yaml" in data))
    return job


def test_kubernetes_gets_a_cron_job_that_submits_a_ray_job_and_waits(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "archive")
    text = files(archive, "kubernetes", image="mine:3")["indexer-test.yaml"]
    kinds = by_kind(text)
    assert set(kinds) == {"ServiceAccount", "Role", "RoleBinding", "CronJob", "PersistentVolumeClaim"}
    spec = kinds["CronJob"]["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("15 1 * * *", "Europe/Berlin", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert subprocess.run(["sh", "-n", "-c", pod["containers"][0]["command"][2]], check=False).returncode == 0
    job = ray_job_of(text)
    assert (job["apiVersion"], job["kind"], job["metadata"]) == ("ray.io/v1", "RayJob", {"generateName": "indexer-test-"})
    assert [mistake for document in (job, *yaml.safe_load_all(text)) for mistake in mistakes(document)] == []
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert (head["image"], head["envFrom"]) == ("mine:3", [{"secretRef": {"name": "indexer-test"}}])
    assert "archive" not in text.replace(str(archive.folder), "")  # the value of a variable may be secret


def pods_of(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and worker of a RayJob."""
    cluster = job["spec"]["rayClusterSpec"]
    return cluster["headGroupSpec"]["template"]["spec"], cluster["workerGroupSpecs"][0]["template"]["spec"]


def test_pods_of_a_run_have_few_rights_and_all_that_they_mount(archive: Archive) -> None:
    text = files(archive, "kubernetes")["indexer-test.yaml"]
    made = {(document["kind"], document["metadata"]["name"]) for document in yaml.safe_load_all(text)}
    job = ray_job_of(text)
    assert job["spec"]["backoffLimit"] == 0  # exit 11 or 2 would start one cluster after the other
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in pods_of(job):
        assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["livenessProbe"]["exec"] == container["readinessProbe"]["exec"] == {"command": ["healthcheck.sh"]}
        assert {"name": "INDEXER_HEALTH", "value": "ray"} in container["env"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"]}
        assert {str(archive.videos), str(archive.folder / "index"), "/dev/shm", "/etc/indexer"} <= set(mounted)
        claims = {
            volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
        }
        outside = {claim for claim in claims if ("PersistentVolumeClaim", claim) not in made}
        assert outside == {"indexer-test-source", "indexer-test-index"}
        for claim in outside:
            assert f"# A claim {claim} must be there, ReadWriteMany" in text
    head, worker = pods_of(job)
    assert [
        mount["name"] for pod in (head, worker) for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "cache"
    ] == ["cache"]
    assert "# For nodes with GPUs write gpus_per_actor: 1" in text


@pytest.mark.parametrize(
    ("gpus_per_actor", "most", "workers", "each"), [(1, 8, 8, "1"), (0.5, 8, 4, "1"), (0.4, 3, 2, "1"), (2, 3, 3, "2")]
)
def test_a_job_that_asks_for_gpus_gets_workers_with_them(
    archive: Archive, gpus_per_actor: float, most: int, workers: int, each: str
) -> None:
    archive.write_job(ray={"gpus_per_actor": gpus_per_actor, "actors": [1, most]})
    job = ray_job_of(files(archive, "kubernetes")["indexer-test.yaml"])
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["groupName"], group["replicas"]) == ("gpu", workers)
    head, worker = pods_of(job)
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == each
    assert worker["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]


def test_a_field_that_is_not_published_is_found_and_a_value_of_another_type() -> None:
    container = {"name": "x", "volumeMount": [], "command": "indexer"}
    template = {"spec": {"containers": [container]}}
    group = {"rayStartParams": {"num-cpus": 0}, "template": template}
    place = "RayJob.spec.rayClusterSpec.headGroupSpec"
    assert mistakes({"kind": "RayJob", "spec": {"backoffLimit": "2", "rayClusterSpec": {"headGroupSpec": group}}}) == [
        "RayJob.spec.backoffLimit is not int",
        f"{place}.rayStartParams is not map",
        f"{place}.template.spec.containers.volumeMount is unknown",
        f"{place}.template.spec.containers.command is not texts",
    ]


def test_long_names_are_cut_and_stay_apart(archive: Archive) -> None:
    """KubeRay takes 47 characters for a RayJob, of which generateName makes up six."""
    names = []
    for number in range(2):
        job = archive.folder / f"{number}.yaml"
        job.write_text(archive.job_path.read_text().replace("name: test", f"name: A.Very_long-name-{'x' * 40}-{number}"))
        (text,) = cron_job(Command(load_job(job)), "15 1 * * *", "UTC", "indexer:latest").values()
        names.append(ray_job_of(text)["metadata"]["generateName"])
    assert all(re.fullmatch("[a-z][a-z0-9-]{1,40}", name) for name in names)
    assert names[0] != names[1]


def test_the_pod_of_the_cron_job_ends_as_its_ray_job_does(archive: Archive) -> None:
    text = files(archive, "kubernetes")["indexer-test.yaml"]
    pod = by_kind(text)["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    script = pod["containers"][0]["command"][2]
    programs = archive.folder / "bin"
    programs.mkdir()
    (programs / "sleep").write_text("#!/bin/sh\nexit 0\n")
    for states, code in (("Initializing Running Complete", 0), ("Running Retrying Failed", 1), ("ValidationFailed", 1)):
        answers = "\n".join(f"state:{state}" for state in states.split()) + "\n"
        (archive.folder / "answers").write_text(answers)
        (programs / "kubectl").write_text(
            f"""#!/bin/sh
cd {archive.folder}
test "$1" = create && {{ echo rayjob.ray.io/indexer-test-x1; exit; }}
head -n 1 answers; sed -i 1d answers
"""
        )
        for program in programs.iterdir():
            program.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        ended = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=30)
        assert (ended.returncode, (archive.folder / "answers").read_text()) == (code, "")
    ended = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (1, "rayjob.ray.io/indexer-test-x1 was deleted\n")


def test_the_ray_cron_job_has_the_fields_that_there_are_and_says_alpha(archive: Archive) -> None:
    text = files(archive, "rayjob")["indexer-test.yaml"]
    assert text.startswith("# ALPHA: ")
    job = by_kind(text)["RayCronJob"]
    assert (job["apiVersion"], set(job["spec"])) == ("ray.io/v1", {"schedule", "timeZone", "jobTemplate"})
    assert mistakes(job) == []
    assert job["spec"]["jobTemplate"]["entrypoint"].startswith("sh -c 'indexer run /etc/indexer/test.yaml; ")


def test_a_job_that_would_not_join_the_cluster_is_refused(archive: Archive) -> None:
    archive.write_job(ray={"address": None})
    with pytest.raises(ConfigError, match=re.escape("address: ${RAY_ADDRESS:-} below ray:")):
        files(archive, "kubernetes")
    archive.write_job(ray={"address": "${RAY_ADDRESS:-}"})
    assert files(archive, "kubernetes")


def test_a_job_without_a_schedule_is_told_how_to_get_one(archive: Archive) -> None:
    archive.write_job(schedule={"cron": None})
    ended = archive.command("schedule", str(archive.job_path), "--as", "cron")
    assert ended.returncode == 2
    assert 'schedule.cron: is not set; write\n\nschedule:\n  cron: "15 1 * * *"' in ended.stderr


def test_files_are_written_into_a_folder_that_is_made_for_them(archive: Archive) -> None:
    folder = archive.folder / "etc" / "units"
    texts = files(archive, "systemd", folder=folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == texts
    (archive.folder / "taken").write_text("")
    with pytest.raises(OutputError, match=f"{archive.folder}/taken: cannot be written: File exists"):
        files(archive, "systemd", folder=archive.folder / "taken")
