"""The table of models: one row per weight entry of torchvision's nine video models. Adding a model is adding a row.

A row holds what torchvision's weight objects say in prose only (frames, fps, clips per video: the recipe of the published
accuracy) and where the network is cut for the embedding. Everything else, crop, resize, mean, std, labels, accuracy, is read
from the weight object itself by `model_spec`. Importing this module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from indexer.errors import ConfigError
from indexer.records import ClipGeometry

if TYPE_CHECKING:
    from indexer.config import Model, Sampling


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One weight entry of one torchvision model."""

    name: str
    """torchvision's builder name."""
    entry: str
    weights_file: str
    """File name in torchvision's weights store; the digits after the last `-` begin its sha256."""
    frames: int
    fps: float
    clips_per_video: int
    """Over which the published accuracy is averaged."""
    embedding_layer: str
    """The last linear layer (in s3d a 1x1x1 convolution); what goes into it is the embedding."""
    embedding_width: int


PUBLISHED_FRAMES = 16
"""torchvision counts the operations of clips of this length, whatever the model's own. They grow with it."""

_K400 = "KINETICS400_V1"
_K400_IN22K = "KINETICS400_IMAGENET22K_V1"

MODELS: tuple[ModelEntry, ...] = (
    ModelEntry("r3d_18", _K400, "r3d_18-b3b3357e.pth", 16, 15, 5, "fc", 512),
    ModelEntry("mc3_18", _K400, "mc3_18-a90a0ba3.pth", 16, 15, 5, "fc", 512),
    ModelEntry("r2plus1d_18", _K400, "r2plus1d_18-91a641e6.pth", 16, 15, 5, "fc", 512),
    ModelEntry("s3d", _K400, "s3d-d76dad2f.pth", 128, 15, 1, "classifier.1", 1024),
    ModelEntry("mvit_v1_b", _K400, "mvit_v1_b-dbeb1030.pth", 16, 7.5, 5, "head.1", 768),
    ModelEntry("mvit_v2_s", _K400, "mvit_v2_s-ae3be167.pth", 16, 7.5, 5, "head.1", 768),
    ModelEntry("swin3d_t", _K400, "swin3d_t-7615ae03.pth", 32, 15, 12, "head", 768),
    ModelEntry("swin3d_s", _K400, "swin3d_s-da41c237.pth", 32, 15, 12, "head", 768),
    ModelEntry("swin3d_b", _K400, "swin3d_b_1k-24f7c7c6.pth", 32, 15, 12, "head", 1024),
    ModelEntry("swin3d_b", _K400_IN22K, "swin3d_b_22k-7c6ae6fa.pth", 32, 15, 12, "head", 1024),
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A row made complete for one job: what decoding and the classifier need to know."""

    entry: ModelEntry
    geometry: ClipGeometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]


def find_entry(name: str, weights: str) -> ModelEntry:
    """The row of model `name` for `weights`; a path or `random` takes the model's first row. Raises ConfigError."""
    rows = [row for row in MODELS if row.name == name]
    if not rows:
        raise ConfigError(f"model.name: {name!r} is not a model; allowed: {', '.join(dict.fromkeys(r.name for r in MODELS))}")
    return next((row for row in rows if row.entry == weights), rows[0])


def weights_object(entry: ModelEntry) -> Any:
    """torchvision's own weights object of a row. Imports torch."""
    from indexer.infer.vision import models

    return models.get_model_weights(entry.name)[entry.entry]


def model_spec(model: Model, sampling: Sampling, labels: tuple[str, ...] | None) -> ModelSpec:
    """The spec of a job: the model's own recipe, with the job's `sampling.frames` and `sampling.fps` where given.

    `labels` are the class names of a checkpoint of one's own; None means the 400 of Kinetics. Imports torch.
    """
    spec = published_spec(find_entry(model.name, model.weights))
    geometry = clip_geometry(spec.entry, sampling, spec.geometry.resize, spec.geometry.crop)
    return replace(spec, geometry=geometry, labels=spec.labels if labels is None else labels)


def published_spec(entry: ModelEntry) -> ModelSpec:
    """The model with its own recipe and labels. Imports torch."""
    weights = weights_object(entry)
    preset = weights.transforms()
    resize, crop = tuple(preset.resize_size), tuple(preset.crop_size)
    geometry = ClipGeometry(frames=entry.frames, fps=entry.fps, resize=resize, crop=(crop[0], crop[-1]))
    return ModelSpec(entry, geometry, tuple(preset.mean), tuple(preset.std), tuple(weights.meta["categories"]))


def clip_geometry(entry: ModelEntry, sampling: Sampling, resize: tuple[int, ...], crop: tuple[int, ...]) -> ClipGeometry:
    """`resize` and `crop` as torchvision's presets have them: one number may stand for both sides."""
    return ClipGeometry(
        frames=sampling.frames or entry.frames, fps=sampling.fps or entry.fps, resize=resize, crop=(crop[0], crop[-1])
    )
