from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from indexer import quantities
from indexer.config import FRAMES_AT_LEAST, FRAMES_EXACTLY, WEIGHTS_ENTRIES, Job, Sampling, Source, job_schema, load_job
from indexer.errors import ConfigError
from indexer.infer.models import MODELS

ROOT = Path(__file__).parents[1]

SMALL = """\
name: demo
source:
  uri: videos
model:
  name: r3d_18
"""
"""Five lines, all that a job needs; tests add keys from line 6 on."""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, name: str = "job.yaml") -> Job:
    Path(name).write_text(text, encoding="utf-8")
    return load_job(Path(name))


def complaints(text: str | bytes) -> list[str]:
    Path("job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_job(Path("job.yaml"))
    return str(caught.value).splitlines()


def one_key(dotted: str, value: str) -> str:
    """A small job with one more key: one_key("sampling.segment", "5s")."""
    section, key = dotted.split(".")
    if dotted == "source.uri":
        return SMALL.replace("videos", value)
    if section in ("source", "model"):
        return SMALL.replace(f"{section}:\n", f"{section}:\n  {key}: {value}\n")
    return f"{SMALL}{section}:\n  {key}: {value}\n"


def complaint(dotted: str, value: str) -> str:
    """What is said about one wrong value, without file and line."""
    lines = complaints(one_key(dotted, value))
    assert len(lines) == 1, lines
    where, sentence = lines[0].split(": ", maxsplit=1)
    assert where.split()[1] == dotted
    return sentence


# What a job holds


def test_a_small_job_gets_the_defaults(tmp_path: Path) -> None:
    job = load(SMALL)
    assert (job.name, job.source.uri, job.model.name) == ("demo", f"{tmp_path}/videos", "r3d_18")
    assert (job.source.min_age, job.source.missing_limit, job.source.exclude) == (600.0, 0.2, ())
    assert {"**/*.mp4", "**/*.mkv", "**/*.mov"} < set(job.source.include)
    assert (job.model.weights, job.model.labels, job.model.precision) == ("KINETICS400_V1", None, "auto")
    assert job.sampling.model_dump() == {"segment": 10.0, "clips": 1, "frames": None, "fps": None, "placement": "uniform"}
    assert job.decode.model_dump() == {"backend": "auto", "timeout": 120.0, "max_pixels": 36_000_000, "min_coverage": 0.5}
    assert job.output.model_dump() == {
        "uri": f"{tmp_path}/index",
        "catalog": f"sqlite:///{tmp_path}/index/catalog.db",
        "top_k": 5,
        "min_score": 0.01,
    }
    assert job.ray.model_dump() == {
        "address": None,
        "decode_cpus": None,
        "actors": (1, 1),
        "gpus_per_actor": "auto",
        "object_store": 512_000_000,
    }


def test_every_key_can_be_set() -> None:
    job = load("""\
name: everything-2.0
source: {uri: /a, include: ["**/*.mp4"], exclude: [old/**], min_age: 0s, missing_limit: 5%}
model: {name: swin3d_b, weights: KINETICS400_IMAGENET22K_V1, labels: /l.txt, precision: bf16}
sampling: {segment: 2.5s, clips: 3, frames: 32, fps: 7.5, placement: uniform}
decode: {backend: decord, timeout: 1h30m, max_pixels: 8.3M, min_coverage: 1}
output: {uri: /b, catalog: "sqlite:////c/d.db", top_k: 10, min_score: 1e-3}
ray: {address: auto, decode_cpus: 6, actors: [1, 4], gpus_per_actor: 0.5, object_store: 2GiB}
schedule: {cron: "15  1 * * MON-FRI", time_zone: Europe/Berlin}
monitor: {metrics: /m.prom, notify: ["https://host/a"], notify_on: [failed]}
""")
    assert job.model_dump() == {
        "name": "everything-2.0",
        "source": {"uri": "/a", "include": ("**/*.mp4",), "exclude": ("old/**",), "min_age": 0.0, "missing_limit": 0.05},
        "model": {"name": "swin3d_b", "weights": "KINETICS400_IMAGENET22K_V1", "labels": "/l.txt", "precision": "bf16"},
        "sampling": {"segment": 2.5, "clips": 3, "frames": 32, "fps": 7.5, "placement": "uniform"},
        "decode": {"backend": "decord", "timeout": 5400.0, "max_pixels": 8_300_000, "min_coverage": 1.0},
        "output": {"uri": "/b", "catalog": "sqlite:////c/d.db", "top_k": 10, "min_score": 0.001},
        "ray": {"address": "auto", "decode_cpus": 6, "actors": (1, 4), "gpus_per_actor": 0.5, "object_store": 2 * 1024**3},
        "schedule": {"cron": "15 1 * * MON-FRI", "time_zone": "Europe/Berlin"},
        "monitor": {"metrics": "/m.prom", "notify": ("https://host/a",), "notify_on": ("failed",)},
    }


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load(SMALL).sampling.clips = 2


def test_a_job_knows_its_file_and_keeps_it_on_the_way_to_a_worker(tmp_path: Path) -> None:
    job = load(SMALL, "other.yaml")
    assert job.path == tmp_path / "other.yaml"
    travelled = pickle.loads(pickle.dumps(job))
    assert travelled == job
    assert travelled.path == job.path
    assert "path" not in job.model_dump()


def test_the_path_of_the_file_is_not_a_key() -> None:
    assert complaints(SMALL + "path: x\n") == [
        "job.yaml:6 path: not a key of a job; allowed: name, source, model, sampling, decode, output, ray, schedule, monitor"
    ]


def test_a_job_built_in_code_is_relative_to_the_working_folder(tmp_path: Path) -> None:
    job = Job.model_validate({"name": "a", "source": {"uri": "v"}, "model": {"name": "s3d"}})
    assert (job.source.uri, job.output.uri, job.path) == (f"{tmp_path}/v", f"{tmp_path}/index", tmp_path / "job.yaml")
    assert Source(uri="v").uri == f"{tmp_path}/v"
    assert Sampling(segment="2s").segment == 2.0


# Durations, sizes, shares, numbers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("23h59m59s", 86399.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("1m500ms", 60.5),
    ],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert load(one_key("sampling.segment", text)).sampling.segment == seconds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("10", "10 has no unit; write 10s for seconds, 10m for minutes"),
        ('"10"', '"10" has no unit; write 10s for seconds, 10m for minutes'),
        ("2.5", "2.5 has no unit; write 2.5s for seconds, 2.5m for minutes"),
        ("10 seconds", '"10 seconds" is not a duration; write for example 10s, 2m or 1h30m'),
        ("30m1h", '"30m1h" is not a duration; write for example 10s, 2m or 1h30m'),
        ("-5s", '"-5s" is not a duration; write for example 10s, 2m or 1h30m'),
        ("-5", "-5 is not a duration; write for example 10s, 2m or 1h30m"),
        ("10S", '"10S" is not a duration; write for example 10s, 2m or 1h30m'),
        ("1:30", '"1:30" is not a duration (some YAML reads it as a number); write 1m30s or 1h30m'),
        ("[10s]", "a list is not a duration; write for example 10s, 2m or 1h30m"),
        ("50ms", '"50ms" is out of range; allowed: 100ms to 24h'),
        ("2d", '"2d" is out of range; allowed: 100ms to 24h'),
        ("", "has no value; write one, or leave the key out to get the default"),
    ],
)
def test_what_is_no_duration_is_refused(text: str, sentence: str) -> None:
    assert complaint("sampling.segment", text) == sentence


@given(
    st.lists(st.integers(0, 99), min_size=5, max_size=5),
    st.sets(st.sampled_from(range(5)), min_size=1),
)
def test_a_duration_is_the_sum_of_its_terms(amounts: list[int], chosen: set[int]) -> None:
    units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
    text = "".join(f"{amounts[k]}{units[k][0]}" for k in sorted(chosen))
    milliseconds = sum(amounts[k] * units[k][1] for k in chosen)
    assert quantities.duration_seconds(text, least="0s", most="1000d") == milliseconds / 1000


@given(
    st.integers(0, 10**9), st.sampled_from([("k", 1000), ("MB", 1000**2), ("G", 1000**3), ("MiB", 1024**2), ("Gi", 1024**3)])
)
def test_a_size_is_its_number_times_its_unit(amount: int, unit: tuple[str, int]) -> None:
    assert quantities.size_bytes(f"{amount}{unit[0]}", least="0k", most="999999999999G") == amount * unit[1]


@given(st.integers(0, 36_000_000))
def test_a_number_of_pixels_comes_back_in_every_spelling(count: int) -> None:
    spellings = (count, str(count), f"{count / 1000:.3f}k", f"{count / 10**6:.6f}M", f"{count / 10**9:.9f}G")
    assert {quantities.pixels(spelling, least="0", most="1G") for spelling in spellings} == {count}


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    readers = (
        lambda: quantities.duration_seconds(text, least="0s", most="1000d"),
        lambda: quantities.size_bytes(text, least="1k", most="1G"),
        lambda: quantities.pixels(text, least="1", most="1G"),
        lambda: quantities.share(text),
        lambda: quantities.whole_number(text, least=0, most=10),
    )
    for read in readers:
        try:
            amount, sentence = read(), None
        except ValueError as error:
            amount, sentence = 0, str(error)
        assert amount >= 0
        assert sentence is None or sentence.startswith(quantities.shown(text))


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("ray.object_store", "512", "512 has no unit; write for example 512M or 512MiB"),
        ("ray.object_store", "-512", "-512 is not a size; write for example 512M, 2G or 512MiB"),
        ("ray.object_store", "512m", '"512m" is not a size; write for example 512M, 2G or 512MiB'),
        ("ray.object_store", "10M", '"10M" is out of range; allowed: 80M to 10000G'),
        ("decode.max_pixels", "36m", '"36m" is not a number of pixels; write for example 36M or 500k'),
        ("decode.max_pixels", "1920x1080", '"1920x1080" is not a number of pixels; write for example 36M or 500k'),
        ("decode.max_pixels", "0", "0 is out of range; allowed: 1k to 1G"),
        ("source.missing_limit", "20", "20 is not a share from 0 to 1; write for example 0.2 or 20%"),
        ("source.missing_limit", "a fifth", '"a fifth" is not a share from 0 to 1; write for example 0.2 or 20%'),
        ("decode.min_coverage", "0", "0 is too small: the share must be more than 0"),
        ("decode.min_coverage", "101%", '"101%" is not a share from 0 to 1; write for example 0.2 or 20%'),
        ("sampling.clips", "0", "0 is out of range; allowed: 1 to 1000"),
        ("sampling.clips", "1.5", "1.5 is not a whole number; write for example 1"),
        ("sampling.clips", "010", '"010" is not a whole number; write for example 1'),
        ("sampling.clips", "1_000", '"1_000" is not a whole number; write for example 1'),
        ("sampling.fps", "fast", '"fast" is not a number'),
        ("sampling.fps", ".inf", '".inf" is not a number'),
        ("sampling.fps", "0", "0 is out of range; allowed: 0.1 to 240"),
        ("output.top_k", "five", '"five" is not a whole number; write for example 1'),
        ("ray.decode_cpus", "0", "0 is out of range; allowed: 1 to 100000"),
        ("ray.actors", "[4, 1]", "[4, 1] is the wrong way round; write [1, 4]"),
        ("ray.actors", "[0, 1]", "0 is out of range; allowed: 1 to 1000"),
        ("ray.actors", "2", "2 is not a pair; write [fewest, most], for example [1, 4]"),
        ("ray.actors", "[1, 2, 3]", "a list is not a pair; write [fewest, most], for example [1, 4]"),
        ("ray.gpus_per_actor", "some", '"some" is not a number; write auto, or for example 1, 0.5 or 0'),
        ("ray.gpus_per_actor", "-1", "-1 is out of range; allowed: 0 to 64; write auto, or for example 1, 0.5 or 0"),
        ("ray.gpus_per_actor", "1.5", "1.5 is not possible: a copy gets a part of one GPU (0.5), or whole GPUs (2)"),
    ],
)
def test_wrong_amounts_are_refused_with_what_to_write(key: str, text: str, sentence: str) -> None:
    assert complaint(key, text) == sentence


@pytest.mark.parametrize(
    ("text", "share"), [("0.2", 0.2), ("20%", 0.2), ("0", 0.0), ("1", 1.0), ("100%", 1.0), ("12.5%", 0.125)]
)
def test_shares_are_read_as_a_part_of_one(text: str, share: float) -> None:
    assert load(one_key("source.missing_limit", text)).source.missing_limit == share


# Models, weights, frames


def test_the_models_and_their_weights_are_those_of_the_table() -> None:
    rows: dict[str, tuple[str, ...]] = {}
    for row in MODELS:
        rows[row.name] = (*rows.get(row.name, ()), row.entry)
    assert rows == WEIGHTS_ENTRIES
    for row in MODELS:
        assert row.frames >= FRAMES_AT_LEAST.get(row.name, 2)
        assert row.frames == FRAMES_EXACTLY.get(row.name, row.frames)


def test_an_unknown_model_names_the_nearest_and_all_nine() -> None:
    assert complaints(SMALL.replace("r3d_18", "r3d18")) == [
        "job.yaml:5 model.name: \"r3d18\" is not allowed; did you mean 'r3d_18'? allowed: "
        "r3d_18, mc3_18, r2plus1d_18, s3d, mvit_v1_b, mvit_v2_s, swin3d_t, swin3d_s, swin3d_b"
    ]


def test_weights_that_the_model_does_not_have_name_those_that_it_has() -> None:
    allowed = "allowed: KINETICS400_V1, random, or a path that ends in .pth, .pt, .safetensors"
    said = "\"KINETICS400_IMAGENET22K_V1\" is not known for r3d_18; did you mean 'KINETICS400_V1'? " + allowed
    assert complaint("model.weights", "KINETICS400_IMAGENET22K_V1") == said
    said = "\"kinetics400_v1\" is not known for r3d_18; did you mean 'KINETICS400_V1'? " + allowed
    assert complaint("model.weights", "kinetics400_v1") == said
    assert complaint("model.weights", "mine.ckpt") == f'"mine.ckpt" is not known for r3d_18; {allowed}'


@pytest.mark.parametrize("name", ["mine.pth", "mine.pt", "deep/mine.safetensors"])
def test_a_checkpoint_is_a_path_from_the_job_file(tmp_path: Path, name: str) -> None:
    assert load(one_key("model.weights", name)).model.weights == f"{tmp_path}/{name}"


def test_random_weights_stay_a_word() -> None:
    assert load(one_key("model.weights", "random")).model.weights == "random"


def job_with_frames(model: str, frames: int) -> str:
    return SMALL.replace("r3d_18", model) + f"sampling:\n  frames: {frames}\n"


@pytest.mark.parametrize("model", ["mvit_v1_b", "mvit_v2_s"])
@pytest.mark.parametrize("frames", [8, 32])
def test_mvit_takes_exactly_16_frames(model: str, frames: int) -> None:
    assert load(job_with_frames(model, 16)).sampling.frames == 16
    assert complaints(job_with_frames(model, frames)) == [
        f"job.yaml:7 sampling.frames: {frames} is not possible: {model} takes exactly 16 frames; write 16 or null"
    ]


def test_s3d_takes_at_least_14_frames() -> None:
    assert load(job_with_frames("s3d", 14)).sampling.frames == 14
    assert complaints(job_with_frames("s3d", 13)) == [
        "job.yaml:7 sampling.frames: 13 is too few: s3d takes at least 14 frames"
    ]


def test_other_models_take_at_least_2_frames() -> None:
    assert load(job_with_frames("swin3d_t", 2)).sampling.frames == 2
    assert complaints(job_with_frames("swin3d_t", 1)) == ["job.yaml:7 sampling.frames: 1 is out of range; allowed: 2 to 512"]


@pytest.mark.parametrize(
    ("key", "word", "sentence"),
    [
        ("model.precision", "FP16", "\"FP16\" is not allowed; did you mean 'fp16'? allowed: auto, fp32, bf16, fp16"),
        ("decode.backend", "opencv", '"opencv" is not allowed; allowed: auto, pyav, decord, nvdec'),
        ("decode.backend", "PyAV", "\"PyAV\" is not allowed; did you mean 'pyav'? allowed: auto, pyav, decord, nvdec"),
        ("sampling.placement", "random", '"random" is not allowed; allowed: uniform, keyframe'),
    ],
)
def test_words_are_checked_against_the_allowed_ones(key: str, word: str, sentence: str) -> None:
    assert complaint(key, word) == sentence


@pytest.mark.parametrize("name", ["my job", "../x", "-x", "a" * 65, "ä"])
def test_a_job_name_is_plain(name: str) -> None:
    [said] = complaints(SMALL.replace("demo", f'"{name}"'))
    assert said == (
        f'job.yaml:1 name: "{name}" is not a name; write up to 64 letters, digits, dots, - and _, for example archive'
    )


# Paths and addresses


def test_paths_are_relative_to_the_job_file_wherever_one_stands(tmp_path: Path) -> None:
    Path("jobs").mkdir()
    job = load(SMALL.replace("uri: videos", "uri: ../videos/./a//b"), "jobs/job.yaml")
    assert job.source.uri == f"{tmp_path}/videos/a/b"
    assert job.output.uri == f"{tmp_path}/jobs/index"


def test_links_in_a_path_stay_as_they_are(tmp_path: Path) -> None:
    Path("disk7").mkdir()
    Path("masters").symlink_to("disk7")
    assert load(SMALL.replace("videos", "masters")).source.uri == f"{tmp_path}/masters"


def test_home_folders_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load(SMALL.replace("videos", "~/videos")).source.uri == "/home/ada/videos"
    assert complaint("model.labels", "~nobody-of-that-name/l") == (
        '"~nobody-of-that-name/l" names a user without a home folder'
    )


def test_one_file_has_one_name_even_after_two_slashes() -> None:
    assert load(SMALL.replace("videos", "//srv//videos/")).source.uri == "/srv/videos"


@pytest.mark.parametrize(
    ("catalog", "stored"),
    [
        ("sqlite:///db/c.db", "sqlite:///{folder}/db/c.db"),
        ("sqlite:///../c.db", "sqlite:///{parent}/c.db"),
        ("sqlite:////var/lib/../c.db", "sqlite:////var/c.db"),
        ("null", "sqlite:///{folder}/index/catalog.db"),
        ("postgresql+psycopg://me@host:5433/db?sslmode=require", "postgresql+psycopg://me@host:5433/db?sslmode=require"),
        ("postgresql://host/db", "postgresql+psycopg://host/db"),
        ("postgres:///db?host=/run/postgresql", "postgresql+psycopg:///db?host=/run/postgresql"),
        ("postgresql://[::1]:5432/db", "postgresql+psycopg://[::1]:5432/db"),
    ],
)
def test_the_catalog_gets_a_complete_address(tmp_path: Path, catalog: str, stored: str) -> None:
    output = load(one_key("output.catalog", catalog)).output
    assert output.catalog == stored.format(folder=tmp_path, parent=tmp_path.parent)


def test_the_catalog_of_an_oddly_named_folder_is_still_in_that_folder(tmp_path: Path) -> None:
    from sqlalchemy import make_url

    catalog = load(one_key("output.uri", '"why? 100%25 #1"')).output.catalog
    assert make_url(catalog).database == f"{tmp_path}/why? 100%25 #1/catalog.db"


@pytest.mark.parametrize("key", ["source.uri", "output.uri", "model.labels", "model.weights"])
@pytest.mark.parametrize("scheme", ["S3://", "https://", "file://", "gs://"])
def test_addresses_are_refused_where_a_path_is_wanted(key: str, scheme: str) -> None:
    text = SMALL.replace("  uri: videos\n", "") if key == "source.uri" else SMALL
    section, name = key.split(".")
    text = text.replace(f"{section}:\n", f"{section}:\n  {name}: {scheme}user:secret@bucket/x.pth\n")
    if section == "output":
        text += f"output:\n  {name}: {scheme}user:secret@bucket/x.pth\n"
    [said] = complaints(text)
    assert said.split(": ", maxsplit=1)[1] == (
        f"{scheme} addresses are not allowed; write a path such as ./videos, or s3://bucket/folder"
    )


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("s3://bucket/masters/2023/", "s3://bucket/masters/2023"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/../b//c.csv", "s3://bucket/a/../b//c.csv"),
        ('"s3://my.bucket-7/100% #1?"', "s3://my.bucket-7/100% #1?"),
    ],
)
def test_a_source_in_s3_keeps_its_key(written: str, stored: str) -> None:
    assert load(one_key("source.uri", written)).source.uri == stored


def test_weights_and_labels_may_lie_in_s3() -> None:
    model = load(one_key("model.weights", "s3://bucket/mine.pth") + "  labels: s3://bucket/labels.txt\n").model
    assert (model.weights, model.labels) == ("s3://bucket/mine.pth", "s3://bucket/labels.txt")


@pytest.mark.parametrize("value", ["s3://", "s3:///masters", "s3://b", "s3://user:secret@bucket/masters", '"s3://a bucket/"'])
def test_an_s3_address_names_a_bucket_and_no_secret_is_shown(value: str) -> None:
    assert complaint("source.uri", value) == "is not an s3:// address; write for example s3://bucket/folder"


def test_an_output_in_s3_needs_a_catalog_elsewhere(tmp_path: Path) -> None:
    said = "is required when uri is in S3; write for example sqlite:///index/catalog.db"
    assert complaints(one_key("output.uri", "s3://bucket/index")) == [f"job.yaml:6 output.catalog: {said}"]
    output = load(one_key("output.uri", "s3://bucket/index/") + "  catalog: sqlite:///db/catalog.db\n").output
    assert (output.uri, output.catalog) == ("s3://bucket/index", f"sqlite:///{tmp_path}/db/catalog.db")


def test_the_index_never_goes_into_the_source_in_s3_itself() -> None:
    text = SMALL.replace("videos", "s3://bucket/a") + "output:\n  uri: s3://bucket/a/\n  catalog: sqlite:///c.db\n"
    [said] = complaints(text)
    assert said.endswith("output.uri: is the same as source.uri, and nothing is ever written there; choose another folder")
    load(text.replace("s3://bucket/a/", "s3://bucket/a/index"))


NO_POSTGRESQL = (
    "is not the address of a PostgreSQL database; write for example postgresql+psycopg://indexer@host/archive, and in a"
    " password %40 for @, %3A for :, %2F for / and %25 for %"
)


@pytest.mark.parametrize(
    ("catalog", "sentence"),
    [
        (
            "mysql://me:s3cret@host/db",
            "mysql:// is not allowed; write for example sqlite:///index/catalog.db, or postgresql+psycopg://user@host/name",
        ),
        ("postgresql://host", NO_POSTGRESQL),
        ("postgresql://host/", NO_POSTGRESQL),
        ("postgresql://host:port/db", NO_POSTGRESQL),
        ("postgresql:db", NO_POSTGRESQL),
        ("index/catalog.db", "is not the address of an SQLite file; write for example sqlite:///index/catalog.db"),
        ("sqlite:///", "is not the address of an SQLite file; write for example sqlite:///index/catalog.db"),
        ("sqlite://catalog.db", "is not the address of an SQLite file; write for example sqlite:///index/catalog.db"),
        ("sqlite:///folder/", "is not the address of an SQLite file; write for example sqlite:///index/catalog.db"),
        ('"sqlite:///:memory:"', "must name a file, without options; write for example sqlite:///index/catalog.db"),
        ("sqlite:///c.db?mode=ro", "must name a file, without options; write for example sqlite:///index/catalog.db"),
        ("7", "is not the address of an SQLite file; write for example sqlite:///index/catalog.db"),
    ],
)
def test_only_sqlite_files_and_postgresql_databases_are_catalogs(catalog: str, sentence: str) -> None:
    assert complaint("output.catalog", catalog) == sentence


@pytest.mark.parametrize(
    "catalog",
    [
        "postgresql://me:s3cret@host/db",
        "postgresql://me:${NOT_SET:-s3cret}@host/db",
        "${NOT_SET:-postgresql://me:s3cret@host/db}",
        "postgresql://:s3cret@host/db",
        "postgresql://me:s3/cr@t@host/db",
        "postgresql://me@host/db?sslmode=require&password=s3cret",
        "postgresql://me@host/db?sslpassword=s3cret",
    ],
)
def test_a_password_in_the_file_is_refused_and_never_shown(catalog: str) -> None:
    assert complaint("output.catalog", catalog) == (
        "holds a password, and secrets stay out of job files; write ${VAR} in its place, or leave it out and set PGPASSWORD or"
        " keep it in ~/.pgpass"
    )


@pytest.mark.parametrize(
    ("catalog", "variable"),
    [("postgresql://me:${X}@host/db", "s3cret%40"), ("${X}", "postgresql+psycopg://me:s3cret%40@host/db")],
)
def test_a_password_comes_from_the_environment_and_never_shows(
    monkeypatch: pytest.MonkeyPatch, catalog: str, variable: str
) -> None:
    monkeypatch.setenv("X", variable)
    job = load(one_key("output.catalog", catalog))
    assert job.output.catalog == "postgresql+psycopg://me:s3cret%40@host/db"
    assert "s3cret" not in f"{job!r} {job} {job.output!r}"


def test_a_wrong_password_from_the_environment_is_told_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "s3/cr@t")
    assert complaint("output.catalog", "postgresql://me:${X}@host/db") == NO_POSTGRESQL


@pytest.mark.parametrize("output", ["videos", "./videos/", "other/../videos", "link"])
def test_the_index_never_goes_into_the_source_folder_itself(output: str) -> None:
    Path("videos").mkdir()
    Path("link").symlink_to("videos")
    assert complaint("output.uri", output) == (
        "is the same as source.uri, and nothing is ever written there; choose another folder"
    )


def test_patterns_are_a_list_below_the_source() -> None:
    assert complaint("source.include", '"*.mp4"') == '"*.mp4" is not a list; write ["*.mp4"]'
    assert complaint("source.include", "[]") == "is an empty list; name at least one, or leave the key out to get the default"
    assert complaints(one_key("source.exclude", '[a, 7, "/srv/x", null]')) == [
        'job.yaml:3 source.exclude[1]: 7 is not text; write "7"',
        'job.yaml:3 source.exclude[2]: "/srv/x" never matches: patterns are relative to source.uri; '
        "write for example **/*.mp4",
        "job.yaml:3 source.exclude[3]: has no value; write one",
    ]


# The environment


def test_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE", "/srv/a")
    monkeypatch.setenv("CLIPS", "3")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOWHERE", raising=False)
    job = load("""\
name: ${NOWHERE:-nightly}-${CLIPS}
source: {uri: "${ARCHIVE}/masters", min_age: "${NOWHERE:-5}m"}
model: {name: r3d_18, labels: "$${ARCHIVE}", weights: "${EMPTY:-random}"}
sampling:
  clips: ${CLIPS}
ray:
  address: ${NOWHERE:-}
  decode_cpus: ${EMPTY}
  gpus_per_actor: ${NOWHERE:-0.5}
  actors: ["${NOWHERE:-1}", "${CLIPS}"]
""")
    assert job.name == "nightly-3"
    assert (job.source.uri, job.source.min_age) == ("/srv/a/masters", 300.0)
    assert Path(job.model.labels or "").name == "${ARCHIVE}"
    assert (job.model.weights, job.sampling.clips) == ("random", 3)
    assert (job.ray.address, job.ray.decode_cpus, job.ray.gpus_per_actor, job.ray.actors) == (None, None, 0.5, (1, 3))


def test_what_a_variable_holds_is_never_read_as_yaml_or_filled_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", "a: [b, ${HOME}] # c")
    assert Path(load(SMALL.replace("videos", "x/${FOLDER}")).source.uri).name == "a: [b, ${HOME}] # c"


def test_a_missing_variable_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHIVE", raising=False)
    assert complaints(SMALL.replace("videos", "${ARCHIVE}/masters")) == [
        "job.yaml:3 source.uri: the environment variable ARCHIVE is not set; set it, or write ${ARCHIVE:-default}"
    ]


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE", "")
    assert complaints(SMALL.replace("videos", "${ARCHIVE}")) == ["job.yaml:3 source.uri: has no value; write one"]


@pytest.mark.parametrize("form", ["${A-b}", "${A:?b}", "${1}", "${}", "${A", "${A:-${B}}", '"${A\\nB}"'])
def test_other_shell_forms_are_refused(form: str) -> None:
    [said] = complaints(SMALL.replace("videos", form))
    assert said.startswith('job.yaml:3 source.uri: "${')
    assert said.endswith(" is not understood; write ${VAR} or ${VAR:-default}, or $${ for a plain ${")


def test_variables_are_not_filled_in_in_keys() -> None:
    assert complaints(SMALL + "${HOME}: x\n") == [
        "job.yaml:6 ${HOME}: not a key of a job; "
        "allowed: name, source, model, sampling, decode, output, ray, schedule, monitor"
    ]


@pytest.mark.parametrize("key", ["aws_secret_access_key", "password", "db-password", "API_KEY", "session_token"])
def test_secrets_are_refused_and_not_repeated(key: str) -> None:
    for text, line in ((f"{SMALL}{key}: hunter2\n", 6), (f"{SMALL}output:\n  {key}: hunter2\n", 7)):
        [said] = complaints(text)
        assert said.startswith(f"job.yaml:{line} ")
        assert said.endswith(
            f"{key}: secrets stay out of job files; credentials come from the environment or the AWS credential chain"
        )


# What is said about keys


def test_all_problems_are_said_at_once_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    assert complaints("""\
name: on
source:
  uri: https://bucket/masters
model:
  name: r3d_18
sampling:
  every: 4s
  clips: 0
  segment: 10 seconds
decode:
  backend: ffmpeg
  timeout: 10
output:
  uri: ${NOWHERE}
""") == [
        'job.yaml:1 name: on is read as a boolean, and no key takes one; if the word is meant, write "on"',
        "job.yaml:3 source.uri: https:// addresses are not allowed; write a path such as ./videos, or s3://bucket/folder",
        "job.yaml:7 sampling.every: not a key of sampling; did you mean 'segment'? "
        "allowed: segment, clips, frames, fps, placement",
        "job.yaml:8 sampling.clips: 0 is out of range; allowed: 1 to 1000",
        'job.yaml:9 sampling.segment: "10 seconds" is not a duration; write for example 10s, 2m or 1h30m',
        'job.yaml:11 decode.backend: "ffmpeg" is not allowed; allowed: auto, pyav, decord, nvdec',
        "job.yaml:12 decode.timeout: 10 has no unit; write 10s for seconds, 10m for minutes",
        "job.yaml:14 output.uri: the environment variable NOWHERE is not set; set it, or write ${NOWHERE:-default}",
    ]


def test_the_file_is_shown_as_it_was_given(tmp_path: Path) -> None:
    Path("jobs").mkdir()
    for given_as in ("jobs/../jobs/a.yaml", f"{tmp_path}/jobs/a.yaml"):
        with pytest.raises(ConfigError) as caught:
            load(SMALL + "x: 1\n", given_as)
        assert str(caught.value).startswith(f"{given_as}:6 x: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("segment: 5s", "segment: not a key of a job; it belongs in sampling; allowed: name,"),
        ("uri: x", "uri: not a key of a job; it belongs in source or output; allowed: name,"),
        ("sample: {}", "sample: not a key of a job; did you mean 'sampling'? allowed: name,"),
        ("sampling: {segments: 5s}", "sampling.segments: not a key of sampling; did you mean 'segment'? allowed: segment,"),
        ("output: {database: x}", "output.database: not a key of output; did you mean 'catalog'? allowed: uri,"),
        ("ray: {uri: x}", "ray.uri: not a key of ray; it belongs in source or output; allowed: address,"),
        ('"a\\nb": 1', '"a\\nb": not a key of a job; allowed: name,'),
    ],
)
def test_an_unknown_key_gets_a_hint(text: str, said: str) -> None:
    [line] = complaints(f"{SMALL}{text}\n")
    assert line.startswith(f"job.yaml:6 {said}")


def test_missing_keys_are_named() -> None:
    assert complaints("sampling:\n  clips: 2\n") == [
        "job.yaml:1 name: is required",
        "job.yaml:1 source: is required, with uri",
        "job.yaml:1 model: is required, with name",
    ]
    assert complaints("name: a\nsource:\n  min_age: 1m\nmodel: {}\n") == [
        "job.yaml:2 source.uri: is required",
        "job.yaml:4 model.name: is required",
    ]


def test_a_section_holds_keys() -> None:
    allowed = "allowed: segment, clips, frames, fps, placement"
    assert complaints(SMALL + "sampling: 10s\n") == [f"job.yaml:6 sampling: must hold keys; {allowed}"]
    assert complaints(SMALL + "sampling: [segment, 10s]\n") == [f"job.yaml:6 sampling: must hold keys; {allowed}"]
    assert complaints(SMALL + "sampling:\n") == [
        "job.yaml:6 sampling: has no value; write one, or leave the key out to get the default"
    ]


def test_a_value_of_the_wrong_kind_is_named() -> None:
    assert complaints(SMALL.replace("demo", "2024")) == ['job.yaml:1 name: 2024 is not text; write "2024"']
    assert complaint("ray.address", "[a]") == "a list is not text"
    assert complaint("ray.address", "head") == '"head" is not allowed; write auto, or host:6379 for the head of a cluster'
    assert complaint("ray.address", "ray://head:10001").startswith("leads to Ray's client, which cannot pass on what decoders")
    assert complaint("ray.address", "5") == '5 is not text; write "5"'


@pytest.mark.parametrize("word", ["on", "off", "yes", "No", "TRUE", "false"])
def test_words_that_yaml_may_read_as_booleans_need_quotes(word: str) -> None:
    assert complaints(SMALL.replace("demo", word)) == [
        f'job.yaml:1 name: {word} is read as a boolean, and no key takes one; if the word is meant, write "{word}"'
    ]
    assert load(SMALL.replace("demo", f'"{word}"')).name == word


@pytest.mark.parametrize("word", ["2024-01-31", "0x1F", "1_000", "007", "1:30"])
def test_words_that_only_some_yaml_reads_as_something_else_stay_words(tmp_path: Path, word: str) -> None:
    assert load(SMALL.replace("videos", word)).source.uri == f"{tmp_path}/{word}"


# What is said about files


def test_a_file_that_cannot_be_read_is_named() -> None:
    Path("folder.yaml").mkdir()
    Path("file").touch()
    for name, sentence in (
        ("nowhere.yaml", "nowhere.yaml: there is no such file"),
        ("folder.yaml", "folder.yaml: is a folder, not a job file"),
        ("file/job.yaml", "file/job.yaml: cannot be read: Not a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_job(Path(name))
        assert str(caught.value) == sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named() -> None:
    Path("job.yaml").touch(mode=0)
    with pytest.raises(ConfigError, match=r"^job\.yaml: cannot be read: Permission denied$"):
        load_job(Path("job.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "job.yaml: is empty; a job needs at least name, source and model"),
        ("# nothing\n", "job.yaml: is empty; a job needs at least name, source and model"),
        ("name: " + "a" * 1_000_000, "job.yaml: is larger than 1 MB, so it is hardly a job file"),
        (b"name: a\nsource: \xff\n", "job.yaml:2: is not UTF-8 text; save the file as UTF-8"),
        ("a: b\nc: \a\n", "job.yaml:2: the character U+0007 is not allowed in YAML"),
        ("- a\n- b\n", "job.yaml:1: a job file is a mapping of keys, such as name: archive"),
        ("archive\n", "job.yaml:1: a job file is a mapping of keys, such as name: archive"),
        ("name: a\n  b: c\n", "job.yaml:2: is not valid YAML: mapping values are not allowed here"),
        (
            "name: a\nsource:\n\turi: b\n",
            "job.yaml:3: is not valid YAML: found character '\\t' that cannot start any token; "
            "indent with spaces, not with tabs",
        ),
        (
            "name: a\nsource: {uri: ${X}}\n",
            "job.yaml:2: is not valid YAML: expected ',' or '}', but got '{' "
            "(while parsing a flow mapping that begins on line 2); "
            'inside [ ] and { } a "${VAR}" needs quotes',
        ),
        (
            "name: 'a\n\n\nb: c\n",
            "job.yaml:5: is not valid YAML: found unexpected end of stream "
            "(while scanning a quoted scalar that begins on line 1)",
        ),
        (
            "name: &a b\nsource: *a\n",
            "job.yaml:1: anchors (&) and aliases (*) are not allowed in a job file; write the value out, or put it in quotes",
        ),
        (
            "name: a\nsource:\n  include: [*.mp4]\n",
            "job.yaml:3: is not valid YAML: expected alphabetic or numeric character, but found '.' "
            "(while scanning an alias that begins on line 3); put a word that begins with * in quotes",
        ),
        (
            "name: a\nmodel: !!python/object:os.system {}\n",
            "job.yaml:2: tags (!) are not allowed in a job file; if the value begins with !, put it in quotes",
        ),
        ("name: a\n---\nname: b\n", "job.yaml:2: a second document begins here; one file holds one job"),
        ("name: " + "[" * 100_000, "job.yaml:1: is nested too deeply"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(text: str | bytes, said: str) -> None:
    assert complaints(text) == [said]


def test_a_key_written_twice_is_refused() -> None:
    assert complaints(SMALL + "sampling:\n  clips: 1\n  segment: 5s\n  clips: 2\nname: b\n") == [
        "job.yaml:9 sampling.clips: is written twice; the first is on line 7",
        "job.yaml:10 name: is written twice; the first is on line 1",
    ]


def test_a_key_is_one_word() -> None:
    assert complaints(SMALL + "? [a, b]\n: c\n") == ["job.yaml:6: a key must be one word"]


def test_an_alias_bomb_costs_nothing() -> None:
    layers = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30))
    [said] = complaints(f"l0: &l0 [x]\n{layers}\n")
    assert said.startswith("job.yaml:1: anchors (&) and aliases (*) are not allowed")


def test_windows_line_ends_and_a_byte_order_mark_are_fine() -> None:
    Path("job.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_job(Path("job.yaml")).name == "demo"


@given(st.text(max_size=60))
def test_any_text_is_a_job_or_a_config_error(text: str) -> None:
    try:
        said = f"job.yaml gives {load(SMALL + text)}"
    except ConfigError as error:
        said = str(error)
    assert said.startswith("job.yaml")


# The schema


def validators() -> list[Any]:
    schema = job_schema()
    return [jsonschema.Draft7Validator(schema), jsonschema.Draft202012Validator(schema)]


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    committed = (ROOT / "schemas" / "job.schema.json").read_text(encoding="utf-8")
    assert committed == json.dumps(job_schema(), indent=2, sort_keys=False) + "\n"


def test_the_schema_is_valid_in_both_drafts() -> None:
    for validator in validators():
        validator.check_schema(validator.schema)


def test_every_key_has_a_description() -> None:
    schema = job_schema()
    sections = {name: part["properties"] for name, part in schema["properties"].items() if "properties" in part}
    assert list(sections) == ["source", "model", "sampling", "decode", "output", "ray", "schedule", "monitor"]
    for keys in (schema["properties"], *sections.values()):
        assert [key for key, part in keys.items() if not part.get("description")] == []


@pytest.mark.parametrize("name", ["archive.yaml", "kinetics.yaml"])
def test_the_jobs_we_ship_load_and_fit_the_schema(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable in ("ARCHIVE", "INDEX", "RAY_ADDRESS", "VIDEOS"):
        monkeypatch.delenv(variable, raising=False)
    path = ROOT / "jobs" / name
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../schemas/job.schema.json\n")
    assert load_job(path).name == path.stem
    for validator in validators():
        validator.validate(yaml.safe_load(text))


def test_the_archive_job_shows_every_key() -> None:
    written = yaml.safe_load((ROOT / "jobs" / "archive.yaml").read_text(encoding="utf-8"))
    for name, part in job_schema()["properties"].items():
        assert name in written
        assert list(part.get("properties", {})) == (list(written[name]) if "properties" in part else [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source.min_age", "500ms"),
        ("source.missing_limit", "20%"),
        ("source.missing_limit", "0.2"),
        ("source.include", '["**/*.mp4"]'),
        ("model.weights", "random"),
        ("model.weights", "../mine.safetensors"),
        ("model.labels", "null"),
        ("model.precision", "${X:-fp16}"),
        ("sampling.segment", "1h30m"),
        ("sampling.clips", '"4"'),
        ("sampling.clips", "${X:-4}"),
        ("sampling.fps", "7.5"),
        ("decode.max_pixels", "36000000"),
        ("decode.max_pixels", "8.3M"),
        ("output.catalog", "sqlite:///c.db"),
        ("output.catalog", "postgresql+psycopg://me@host/db"),
        ("output.catalog", "postgresql://me:${X:-}@host/db"),
        ("output.uri", "${X:-./there}"),
        ("ray.actors", '[1, "${X:-2}"]'),
        ("source.uri", "s3://bucket/masters"),
        ("model.weights", "s3://bucket/mine.pth"),
        ("ray.gpus_per_actor", "auto"),
        ("ray.gpus_per_actor", "0.5"),
        ("ray.object_store", "512MiB"),
    ],
)
def test_what_loads_fits_the_schema(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.delenv("X", raising=False)
    load(one_key(key, value))
    for validator in validators():
        validator.validate(yaml.safe_load(one_key(key, value)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source.min_age", "10"),
        ("source.missing_limit", "20"),
        ("source.include", "[]"),
        ("source.include", '"**/*.mp4"'),
        ("model.weights", "mine.ckpt"),
        ("source.uri", "s3://"),
        ("source.uri", "https://bucket/masters"),
        ("model.weights", "https://host/mine.pth"),
        ("model.precision", "float16"),
        ("sampling.segment", "10 seconds"),
        ("sampling.clips", "0"),
        ("sampling.placement", "keyframes"),
        ("sampling.every", "10s"),
        ("decode.min_coverage", "0"),
        ("output.uri", "gs://bucket"),
        ("output.catalog", "postgresql://me:s3cret@host/db"),
        ("output.catalog", "mysql://host/db"),
        ("ray.actors", "[1]"),
        ("ray.object_store", "512"),
    ],
)
def test_an_editor_marks_what_does_not_load(key: str, value: str) -> None:
    complaint(key, value)
    for validator in validators():
        assert not validator.is_valid(yaml.safe_load(one_key(key, value)))


def test_reading_a_job_imports_nothing_heavy() -> None:
    script = "import sys, indexer.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded
    assert loaded & {"torch", "ray", "av", "decord", "numpy", "pyarrow", "sqlalchemy"} == set()
