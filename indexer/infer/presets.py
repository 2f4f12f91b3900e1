"""How large the pictures of a model are, remembered from torchvision: decoding can begin before torchvision is imported."""

from __future__ import annotations

from importlib.metadata import version

from indexer.config import Model, Sampling
from indexer.infer.memory import recall, remember
from indexer.infer.models import ModelEntry, clip_geometry, find_entry
from indexer.records import ClipGeometry


def remembered_geometry(model: Model, sampling: Sampling) -> ClipGeometry | None:
    """As `model_spec` found it with this torchvision before; None if it did not. Imports no torch."""
    entry = find_entry(model.name, model.weights)
    try:
        preset = recall("presets")[_key(entry)]
        return clip_geometry(entry, sampling, tuple(map(int, preset["resize"])), tuple(map(int, preset["crop"])))
    except (KeyError, TypeError, ValueError):
        return None


def remember_geometry(model: Model, geometry: ClipGeometry) -> None:
    remember("presets", _key(find_entry(model.name, model.weights)), {"resize": geometry.resize, "crop": geometry.crop})


def _key(entry: ModelEntry) -> str:
    return f"{entry.name} {entry.entry} torchvision-{version('torchvision')}"
