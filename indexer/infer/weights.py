"""Where the numbers of a model come from: a torchvision weight entry, a checkpoint file (also in S3), or nothing but a seed.

Entries live in torch hub's cache, as torchvision itself would put them there. A missing one is fetched once, by the driver,
from torchvision's address or the mirror in INDEXER_WEIGHTS_URL, and only its sha256 makes it valid.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

from indexer.errors import WeightsError
from indexer.infer.models import MODELS, ModelEntry, find_entry, weights_object
from indexer.storage.cache import cached_copy

if TYPE_CHECKING:
    from indexer.config import Model

MIRROR_VARIABLE = "INDEXER_WEIGHTS_URL"
RANDOM_SEED = 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are there and whole. `path` is None for `weights: random`."""

    path: str | None
    sha256: str
    """Hex; `random-<seed>` for random weights."""
    content: bytes | None = None
    """The file itself, for a machine that does not have it."""

    def with_content(self) -> Weights:
        return self if self.path is None else replace(self, content=Path(self.path).read_bytes())


def is_checkpoint(model: Model) -> bool:
    """Whether its weights are a file of one's own."""
    return model.weights != "random" and all((model.name, model.weights) != (row.name, row.entry) for row in MODELS)


def weights_identity(model: Model) -> str:
    """What names the weights in a recipe, known without fetching them: the sha256 of a checkpoint file, the published digits
    of an entry's sha256, or the seed. Raises WeightsError if a checkpoint is not there."""
    if model.weights == "random":
        return f"random-{RANDOM_SEED}"
    if is_checkpoint(model):
        return _checkpoint(model).sha256
    return _hash_prefix(find_entry(model.name, model.weights))


def resolve_weights(model: Model) -> Weights:
    """Find, or download, the weights that a job names, and hash them. Raises WeightsError (exit 15)."""
    if model.weights == "random":
        return Weights(None, f"random-{RANDOM_SEED}")
    if is_checkpoint(model):
        return _checkpoint(model)
    entry = find_entry(model.name, model.weights)
    path = cache_path(entry)
    if not path.exists():
        _download(entry, path)
    found, expected = _sha256(path), _hash_prefix(entry)
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is damaged: its sha256 begins with {found[:8]}, not {expected}. Delete it; the next run fetches it again."
        )
    return Weights(str(path), found)


def read_labels(path: str | None) -> tuple[str, ...] | None:
    """The class names of a checkpoint of one's own, one per line; None for None. Raises WeightsError."""
    if path is None:
        return None
    try:
        lines = Path(cached_copy(path)).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"model.labels: {path} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    repeated = {name for name in names if names.count(name) > 1}
    if not names or repeated:
        raise WeightsError(f"model.labels: {path} must name each class once, one per line; repeated: {sorted(repeated)}")
    return names


def cache_path(entry: ModelEntry) -> Path:
    """Where torch hub keeps the file of `entry`: the rule of `torch.hub.get_dir()`, without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return home / "hub" / "checkpoints" / entry.weights_file


def download_url(entry: ModelEntry) -> str:
    """Where a missing file comes from: torchvision's address, or the mirror."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{entry.weights_file}" if mirror else str(weights_object(entry).url)


def load_state(weights: Weights) -> dict[str, Any]:
    """The state dict in a .pth (tensors only, never code) or .safetensors file. Raises WeightsError. Imports torch."""
    import io
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    assert weights.path is not None
    try:
        if weights.path.endswith(".safetensors"):
            return dict(load_file(weights.path) if weights.content is None else load(weights.content))
        file = weights.path if weights.content is None else io.BytesIO(weights.content)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError, EOFError, ValueError) as error:
        # A cut file and a file that wants to run code both end here; neither is ever loaded another way.
        raise WeightsError(f"{weights.path} cannot be loaded as weights: {str(error).splitlines()[0]}") from error
    # torchvision's training script, and many others, keep the state dict beside the optimizer's.
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"{weights.path} holds no state dict: a mapping from layer names to tensors is expected")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _download(entry: ModelEntry, path: Path) -> None:
    from torch.hub import download_url_to_file

    url = download_url(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Writes beside `path`, checks the hash, renames: a broken download never takes the place of a file.
        download_url_to_file(url, str(path), hash_prefix=_hash_prefix(entry), progress=False)
    except (URLError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise WeightsError(
            f"the weights of {entry.name} {entry.entry} could not be fetched from {url}: {error}. "
            f"Put the file at {path}, or set {MIRROR_VARIABLE} to the address of a mirror."
        ) from error


def _checkpoint(model: Model) -> Weights:
    try:
        path = cached_copy(model.weights)
    except OSError as error:
        raise WeightsError(f"model.weights: {model.weights} cannot be read: {error.strerror}") from error
    return Weights(path, _sha256(Path(path)))


def _hash_prefix(entry: ModelEntry) -> str:
    return Path(entry.weights_file).stem.rsplit("-", 1)[1]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"model.weights: {path} cannot be read: {error.strerror}") from error
