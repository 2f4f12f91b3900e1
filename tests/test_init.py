"""`indexer init` writes a job that fits its source, and that the program takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from indexer.config import load_job
from indexer.errors import SourceError
from indexer.infer.models import find_entry
from indexer.init.draft import Choices, choose, draft
from indexer.init.survey import Survey, survey
from indexer.quantities import duration_seconds
from tests.archives import Archive
from tests.s3 import S3Place

WIDE: dict[str, Any] = {
    "uri": "/srv/archive/News 2019", "complete": True, "videos": 1200, "size_bytes": 2_000_000_000_000, "sampled": 50,
    "extensions": {".mxf": 1000, ".mp4": 200}, "others": {".txt": 3}, "unreadable": {"E_NOT_MEDIA": 1},
    "codecs": {"mpeg2video": 40}, "resolutions": {"1920x1080": 40}, "most_pixels": 1920 * 1080,
    "shortest_seconds": 10.0, "median_seconds": 600.0, "longest_seconds": 7200.0, "video_seconds": 500 * 3600.0,
}  # fmt: skip


def chosen(*, gpu: bool, **facts: Any) -> Choices:
    return choose(Survey(**WIDE | facts), gpu=gpu)


def test_a_job_for_a_folder_is_taken_by_plan(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4", frames=50)
    archive.add("deep/b ${HOME}.MKV", frames=25)
    (archive.videos / "bad.mp4").write_text("no video")
    (archive.videos / "notes.txt").write_text("x")
    ended = archive.command("init", "videos")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[0].startswith(f"3 videos in {archive.videos}, 0.00 GB, about 0.0 hours.")
    assert "these cannot be indexed: 1 E_NOT_MEDIA." in ended.stderr
    assert "left out: 1 .txt." in ended.stderr
    job_path = archive.folder / "made.yaml"
    job_path.write_text(ended.stdout)
    job = load_job(job_path)
    assert (job.name, job.source.uri, job.source.include) == ("videos", str(archive.videos), ("**/*.mp4", "**/*.mkv"))
    assert (job.sampling.segment, job.output.uri) == (3.0, str(archive.folder / "index-videos"))
    facts = json.loads(archive.command("init", "videos", "--json").stdout)
    assert (facts["videos"], facts["extensions"], facts["others"]) == (3, {".mp4": 2, ".mkv": 1}, {".txt": 1})
    assert (facts["video_seconds"], facts["unreadable"]) == (3.0, {"E_NOT_MEDIA": 1})
    assert (facts["choices"]["segment"], facts["job"]) == ("3s", ended.stdout)
    planned = archive.command("plan", str(job_path), "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["videos"]["found"] == 3


def test_the_facts_of_a_bucket(s3: S3Place, tmp_path: Path) -> None:
    video = Archive(tmp_path).add("a.mp4", frames=50, width=64, height=48)
    s3.put("masters/a.mp4", video.read_bytes())
    s3.put("masters/b.mp4", video.read_bytes())
    s3.put("masters/c.srt", b"x")
    facts = survey(f"{s3.uri}/masters")
    assert (facts.videos, facts.extensions, facts.others) == (2, {".mp4": 2}, {".srt": 1})
    assert (facts.codecs, facts.resolutions, facts.video_seconds) == ({"h264": 2}, {"64x48": 2}, 4.0)
    assert facts.size_bytes == 2 * video.stat().st_size


def test_a_manifest_is_a_source_too(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.add("a.mp4", frames=25)
    manifest = archive.folder / "list.csv"
    manifest.write_text("uri\nvideos/a.mp4\n")
    facts = survey(str(manifest))
    assert (facts.videos, facts.median_seconds) == (1, 1.0)
    assert choose(facts, gpu=False).name == "list"


def test_a_source_without_videos_or_without_anything_is_exit_10(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for number in range(3):
        (archive.videos / f"{number}.rec").write_text("x")
    ended = archive.command("init", "videos")
    assert (ended.returncode, ended.stdout) == (10, "")
    assert ended.stderr == f"source.uri: there is no video in {archive.videos}. There are: 3 .rec.\n"
    with pytest.raises(SourceError, match="Is the disk mounted"):
        survey(str(tmp_path / "nowhere"))
    assert archive.command("init", "https://example.com/x").returncode == 2


def test_a_bucket_that_does_not_take_the_credentials_is_exit_12(tmp_path: Path) -> None:
    nobody = {
        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "",
    }  # fmt: skip
    ended = Archive(tmp_path).command("init", "s3://some-bucket/masters", **nobody)
    assert (ended.returncode, ended.stdout) == (12, "")
    assert ended.stderr.startswith("No AWS credentials")


def test_choices_follow_the_source_and_the_machine() -> None:
    assert chosen(gpu=True).model == "mvit_v2_s"
    assert chosen(gpu=False).model == "r3d_18"
    assert chosen(gpu=True).segment == "10s"
    assert chosen(gpu=False).segment == "30s"  # 500 hours
    assert chosen(gpu=False, video_seconds=3600.0).segment == "10s"
    assert chosen(gpu=True, median_seconds=8.0).segment == "3s"
    assert chosen(gpu=True).max_pixels == "36M"
    assert chosen(gpu=True, most_pixels=40_000_000).max_pixels == "44M"


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("median_seconds", [8.0, 600.0])
def test_a_clip_of_the_chosen_model_fits_into_the_chosen_segment(gpu: bool, median_seconds: float) -> None:
    made = chosen(gpu=gpu, median_seconds=median_seconds)
    entry = find_entry(made.model, "KINETICS400_V1")
    assert entry.frames / entry.fps <= duration_seconds(made.segment, least="1ms", most="1h")


def test_on_a_cpu_the_model_is_the_one_that_was_measured_to_be_quickest() -> None:
    measured = json.loads((Path(__file__).parents[1] / "benchmarks/results/models.json").read_text())
    seconds = {name: found["seconds_per_clip"] for name, found in measured.items() if "seconds_per_clip" in str(found)}
    assert measured["device"] == "CPU"
    assert chosen(gpu=False).model == min(seconds, key=seconds.__getitem__)
    assert round(seconds["mvit_v2_s"] / seconds["r3d_18"]) == 4  # as the file says


@pytest.mark.parametrize("uri", ['/srv/a b\'s "x" #1: ${HOME}', "s3://bucket/täg%20\\x", "/", "/srv/--", "/srv/x\ny"])
def test_any_address_comes_back_out_of_the_file(tmp_path: Path, uri: str) -> None:
    facts = Survey(**WIDE | {"uri": uri})
    path = tmp_path / "job.yaml"
    path.write_text(draft(facts, choose(facts, gpu=False)))
    assert load_job(path).source.uri == uri
    assert yaml.safe_load(path.read_text())["model"] == {"name": "r3d_18", "weights": "KINETICS400_V1"}
