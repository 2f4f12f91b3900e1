"""What a job is: jobs/*.yaml -> one frozen Job, every value checked. Config key = field name, letter for letter.

    job = load_job(Path("jobs/archive.yaml"))
    job.sampling.segment                       10.0, in seconds
    job.source.uri                             "/srv/archive/masters", absolute

Texts with units become plain numbers: durations float seconds, sizes int bytes, shares float 0 to 1. Relative paths are
relative to the job file. Importing this module is cheap: no torch, no ray.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from indexer import fields
from indexer.complaints import complaints, fault
from indexer.fields import PathOrS3, Pattern
from indexer.fields import Section as _Section
from indexer.jobfile import read_job_file, report
from indexer.observe.settings import Monitor
from indexer.quantities import shown
from indexer.schedule.settings import Schedule

ModelName = Literal["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Placement = Literal["uniform", "keyframe"]
Backend = Literal["auto", "pyav", "decord", "nvdec"]

WEIGHTS_ENTRIES = {name: ("KINETICS400_V1",) for name in get_args(ModelName)} | {
    "swin3d_b": ("KINETICS400_V1", "KINETICS400_IMAGENET22K_V1")
}
"""Model -> the published weights that torchvision has for it."""
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")
_WEIGHTS_FORM: fields.Form = {
    "anyOf": [
        {"enum": ["KINETICS400_V1", "KINETICS400_IMAGENET22K_V1", "random"]},
        fields.text(rf"(s3://[^/]+/|(?!{fields.ADDRESS})).*\.(pth|pt|safetensors)"),
        fields.VARIABLE,
    ]
}

FRAMES_EXACTLY = {"mvit_v1_b": 16, "mvit_v2_s": 16}
"""Model -> the one number of frames per clip that it takes."""
FRAMES_AT_LEAST = {"s3d": 14}
"""Model -> the fewest frames per clip that it takes; 2 for the others."""

_COMMON_VIDEOS = tuple(
    f"**/*.{extension}"
    for extension in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts"),
        *("mxf", "wmv", "asf", "flv", "f4v", "3gp", "3g2", "ogv", "vob", "dv"),
    )
)


class Source(_Section):
    """Where the videos are."""

    uri: PathOrS3 = Field(
        description="A folder, or a manifest (.csv, .jsonl or .parquet with a column uri); a path or s3://. Never written to."
    )
    include: tuple[Pattern, ...] = Field(
        default=_COMMON_VIDEOS,
        min_length=1,
        description="Patterns of the files to index, relative to uri. Default: the common video extensions.",
    )
    exclude: tuple[Pattern, ...] = Field(
        default=(), description="Patterns of files to leave out, relative to uri. Wins over include."
    )
    min_age: Annotated[float, fields.duration("0s", "365d")] = Field(
        default="10m",
        validate_default=True,
        description="Duration (10m). A file changed more recently waits for the next run: it may still grow. Read as seconds.",
    )
    missing_limit: Annotated[float, fields.share()] = Field(
        default=0.2,
        description="Share (0.2 or 20%). If more than this share of the known videos is missing at once, the run stops.",
    )


class Model(_Section):
    """The network that names the actions."""

    name: Annotated[ModelName, fields.one_of(get_args(ModelName))] = Field(
        description="One of the nine video models of torchvision."
    )
    weights: Annotated[str, WithJsonSchema(_WEIGHTS_FORM)] = Field(
        default="KINETICS400_V1",
        description="Published weights (KINETICS400_V1; swin3d_b also has KINETICS400_IMAGENET22K_V1), "
        "a checkpoint (.pth, .pt, .safetensors; a path or s3://), or random: an untrained network, for trials only.",
    )
    labels: PathOrS3 | None = Field(
        default=None,
        description="Text file (or s3://), one label per line, for a checkpoint with classes of its own. null: Kinetics-400.",
    )
    precision: Annotated[Precision, fields.one_of(get_args(Precision))] = Field(
        default="auto", description="Number format of the network. auto: the fastest on this machine that agrees with fp32."
    )

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, weights: str, info: ValidationInfo) -> str:
        if weights.endswith(CHECKPOINT_SUFFIXES):
            return fields.path_or_s3(weights, info)
        name = info.data.get("name")
        known = (*WEIGHTS_ENTRIES.get(name, ()), "random")
        if name is not None and weights not in known:
            allowed = f"allowed: {', '.join(known)}, or a path that ends in {', '.join(CHECKPOINT_SUFFIXES)}"
            raise ValueError(f"{shown(weights)} is not known for {name}; {fields.did_you_mean(weights, known)}{allowed}")
        return weights


class Sampling(_Section):
    """Which moments of a video the model sees."""

    segment: Annotated[float, fields.duration("100ms", "24h")] = Field(
        default="10s",
        validate_default=True,
        description="Duration (10s). Length of one segment, which is one row of the index. Read as seconds.",
    )
    clips: Annotated[int, fields.whole(1, 1000)] = Field(
        default=1, description="Clips per segment, spread evenly; their scores and embeddings are averaged."
    )
    frames: Annotated[int, fields.whole(2, 512)] | None = Field(
        default=None, description="Frames per clip. null: as the model was trained."
    )
    fps: Annotated[float, fields.number(0.1, 240)] | None = Field(
        default=None, description="Frames per second inside a clip. null: as the model was trained."
    )
    placement: Annotated[Placement, fields.one_of(get_args(Placement))] = Field(
        default="uniform",
        description="Where clips lie in their segment. uniform: evenly spread. "
        "keyframe: each begins at the key frame nearest to that place, which is much cheaper to decode.",
    )


class Decode(_Section):
    """How videos are read."""

    backend: Annotated[Backend, fields.one_of(get_args(Backend))] = Field(
        default="auto",
        description="The reader of video files; auto: pyav. nvdec: on an NVIDIA GPU, with pyav for each file that it refuses.",
    )
    timeout: Annotated[float, fields.duration("1s", "24h")] = Field(
        default="2m",
        validate_default=True,
        description="Duration (2m). A video that gives no clip for this long fails (E_TIMEOUT). Read as seconds.",
    )
    max_pixels: Annotated[int, fields.pixels("1k", "1G")] = Field(
        default="36M",
        validate_default=True,
        description="Pixels of one picture (36M; k, M, G: powers of 1000). A video with larger ones fails (E_TOO_BIG).",
    )
    min_coverage: Annotated[float, fields.share(zero=False)] = Field(
        default=0.5,
        description="Share (0.5 or 50%), more than 0. A video of which less can be decoded fails (E_TRUNCATED).",
    )


class Output(_Section):
    """Where the index goes."""

    uri: PathOrS3 = Field(
        default="./index",
        validate_default=True,
        description="Folder of the Parquet files, made if missing; or s3://bucket/folder, whose bucket must be there.",
    )
    catalog: Annotated[str, fields.reads(fields.catalog_url, {"type": "null"}, fields.text(fields.CATALOG))] = Field(
        default=None,
        validate_default=True,
        repr=False,  # it may hold a password
        description="The SQL database: sqlite:///relative/file.db, sqlite:////absolute/file.db, or"
        " postgresql+psycopg://user@host/name. No password here: set PGPASSWORD, keep ~/.pgpass, or write user:${VAR}@host."
        " null: catalog.db in uri.",
    )
    top_k: Annotated[int, fields.whole(1, 1000)] = Field(
        default=5, description="The most labels that one segment keeps, best first."
    )
    min_score: Annotated[float, fields.share()] = Field(
        default=0.01, description="Share (0.01 or 1%). A label with a lower score is not kept."
    )

    @model_validator(mode="after")
    def _has_a_catalog(self) -> Self:
        if not self.catalog:
            raise fault("catalog", "is required when uri is in S3; write for example sqlite:///index/catalog.db")
        return self


class Ray(_Section):
    """How the work is spread over the machine or the cluster."""

    address: Annotated[str, fields.ray_address()] | None = Field(
        default=None,
        description="Ray cluster: auto, or host:port of its head. null, or empty as in ${RAY_ADDRESS:-}: Ray is started here, "
        "for this run only.",
    )
    decode_cpus: Annotated[int, fields.whole(1, 100_000)] | None = Field(
        default=None, description="CPU cores that decode at the same time. null: all that are free."
    )
    actors: Annotated[tuple[int, int], fields.fewest_and_most(1000)] = Field(
        default=(1, 1), description="Copies of the model at work: [fewest, most]."
    )
    gpus_per_actor: Annotated[float | Literal["auto"], fields.gpus()] = Field(
        default="auto",
        description="GPUs for one copy of the model, such as 1, 0.5 or 0 (CPU only). "
        "auto: 1 where there is a GPU, or 0.8 beside decode.backend nvdec.",
    )
    object_store: Annotated[int, fields.size("80M", "10000G")] = Field(
        default="512M",
        validate_default=True,
        description="Memory that Ray takes for clips on their way to the model (512M, 2G: powers of 1000; 512MiB: of 1024). "
        "Read as bytes.",
    )


class Job(_Section):
    """One job of the video indexer: which videos, which model, which index."""

    name: Annotated[str, fields.job_name()] = Field(description="Name of the job, in messages and in the catalog.")
    source: Source
    model: Model
    sampling: Sampling = Field(default_factory=dict, validate_default=True)
    decode: Decode = Field(default_factory=dict, validate_default=True)
    output: Output = Field(default_factory=dict, validate_default=True)
    ray: Ray = Field(default_factory=dict, validate_default=True)
    schedule: Schedule = Field(default_factory=dict, validate_default=True)
    monitor: Monitor = Field(default_factory=dict, validate_default=True)

    _path: Path = PrivateAttr()

    @property
    def path(self) -> Path:
        """Absolute path of the job file; not a key of it."""
        return self._path

    def model_post_init(self, context: Any) -> None:
        self._path = fields.job_path(context)

    @field_validator("sampling")
    @classmethod
    def _frames_fit_the_model(cls, sampling: Sampling, info: ValidationInfo) -> Sampling:
        model, frames = info.data.get("model"), sampling.frames
        if model is None or frames is None:
            return sampling
        exactly, least = FRAMES_EXACTLY.get(model.name), FRAMES_AT_LEAST.get(model.name, 2)
        if exactly and frames != exactly:
            raise fault(
                "frames", f"{frames} is not possible: {model.name} takes exactly {exactly} frames; write {exactly} or null"
            )
        if frames < least:
            raise fault("frames", f"{frames} is too few: {model.name} takes at least {least} frames")
        return sampling

    @field_validator("output")
    @classmethod
    def _not_into_the_source(cls, output: Output, info: ValidationInfo) -> Output:
        source = info.data.get("source")
        if source is not None and fields.place(source.uri) == fields.place(output.uri):
            raise fault("uri", "is the same as source.uri, and nothing is ever written there; choose another folder")
        return output


def load_job(path: Path) -> Job:
    """Read and check a job file. ConfigError tells all that is wrong, one problem a line, each with file, line and key."""
    file = read_job_file(path, os.environ)
    try:
        job = Job.model_validate(file.values, context=path)
    except ValidationError as error:
        raise report(path, [*file.problems, *complaints(error, Job, file)]) from None
    if file.problems:
        raise report(path, file.problems)
    return job


def job_schema() -> dict[str, Any]:
    """JSON Schema of a job file as it is written, units and all; understood as Draft 7 and as 2020-12."""
    schema = Job.model_json_schema()
    definitions = schema.pop("$defs")
    for key, section in schema["properties"].items():
        # In Draft 7 whatever stands next to a $ref is ignored, and each section is used once: put it where it belongs.
        if "$ref" in section:
            schema["properties"][key] = definitions[section.pop("$ref").rpartition("/")[2]] | section
    for section in (schema, *schema["properties"].values()):
        for key in section.get("properties", {}).values():
            key.pop("title", None)
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Job of the video indexer"}
    return head | {key: value for key, value in schema.items() if key != "title"}
