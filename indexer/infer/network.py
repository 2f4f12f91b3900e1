"""Build the network of a spec and put its weights in. Says plainly when the two do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from indexer.errors import WeightsError
from indexer.infer.models import ModelSpec
from indexer.infer.vision import models
from indexer.infer.weights import RANDOM_SEED, Weights, load_state


def build_network(spec: ModelSpec, weights: Weights) -> nn.Module:
    """The torchvision model in evaluation mode, on the CPU, fp32. Raises WeightsError if the weights do not fit."""
    torch.manual_seed(RANDOM_SEED)
    with nullcontext() if weights.path is None else _unfilled():
        network: nn.Module = models.get_model(spec.entry.name, weights=None, num_classes=len(spec.labels))
    if weights.path is not None:
        _fill(network, load_state(weights), spec, weights.path)
    return network.eval()


@contextmanager
def _unfilled() -> Iterator[None]:
    """Layers that are made within leave their parameters as the memory is: random numbers for those of swin3d_b, which a
    checkpoint replaces, take two seconds. `_fill` sees that none is left."""
    fillers = {name: fill for name, fill in vars(nn.init).items() if name.endswith("_") and not name.startswith("_")}
    vars(nn.init).update(dict.fromkeys(fillers, _left_alone))
    try:
        yield
    finally:
        vars(nn.init).update(fillers)


def _left_alone(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return tensor


def embedding_layer(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """The layer whose input is the embedding."""
    return network.get_submodule(spec.entry.embedding_layer)


def is_convolutional(network: nn.Module) -> bool:
    """Whether most of its work is convolutions; else it is a transformer, with linear layers."""
    return any(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())


def lighten(network: nn.Module, dtype: torch.dtype, *, throughout: bool) -> None:
    """Do once, in place, what autocast to `dtype` would do for every batch: turn the weights of its layers into that format;
    `throughout`, those of all layers.

    Batch normalisation goes into the convolution before it (eval mode: two affine maps in a row are one). Not in fp16, whose
    numbers end at 65504; bf16 has the range of fp32.
    """
    if dtype == torch.bfloat16:
        for parent in list(network.modules()):
            _fold_batch_norm(parent)
    light = [network] if throughout else [layer for layer in network.modules() if isinstance(layer, nn.Conv3d | nn.Linear)]
    for layer in light:
        layer.to(dtype)


def _fold_batch_norm(parent: nn.Module) -> None:
    children = list(parent.named_children())
    for (name, before), (own_name, layer) in pairwise(children):
        if not isinstance(layer, nn.BatchNorm3d):
            continue
        holder, place = parent, name
        if isinstance(before, nn.Sequential):  # r2plus1d: the convolution in front is the last part of two
            holder, (place, before) = before, list(before.named_children())[-1]
        if isinstance(before, nn.Conv3d):
            setattr(holder, place, fuse_conv_bn_eval(before, layer))
            setattr(parent, own_name, nn.Identity())


def _fill(network: nn.Module, state: dict[str, Any], spec: ModelSpec, path: str) -> None:
    bias = state.get(f"{spec.entry.embedding_layer}.bias")
    if bias is not None and len(bias) != len(spec.labels):
        raise WeightsError(
            f"{path} has {len(bias)} classes, but there are {len(spec.labels)} labels: "
            "set model.labels to a file with one name per class, in the order of the checkpoint"
        )
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    # torchvision adds batch counters that older checkpoints lack; nothing reads them in evaluation mode.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise WeightsError(
            f"{path} does not fit {spec.entry.name}: {len(missing)} layers are missing{_examples(missing)}, "
            f"{len(unknown)} are unknown{_examples(unknown)}"
        )
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {spec.entry.name}: {str(error).splitlines()[-1].strip()}") from error


def _examples(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
