"""A checkpoint that really tells the six actions apart, without a download and without a training run.

The backbone is an untrained r3d_18: random filters, averaged over space and time, describe texture and motion well enough.
Only the last layer is fitted, by ridge regression on the features of a few clips per action. What comes out is an ordinary
state_dict of `torchvision.models.video.r3d_18(num_classes=6)`.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.video import R3D_18_Weights, VideoResNet, r3d_18

from demo import actions
from demo.actions import ACTIONS
from demo.archive import drawing_version, encode, write_atomically
from indexer.infer.heap import keep_freed_memory

FIT_SEEDS = range(12)
"""One clip of each action per seed: with eight, up to a quarter of what bounces is taken for something else. They lie below
`archive.FIRST_BLOCK_SEED`: nothing in the archive is among them."""

RIDGE = 0.1
"""Penalty per clip, where a feature has variance 1. From 0.03 to 0.3 the accuracy hardly changes."""

SPREAD_FLOOR = 0.3
"""Added to each feature's standard deviation, as a share of their mean: a filter that hardly ever fires would otherwise
be blown up to the weight of all others, and a rounding error with it."""

LARGEST_SCALE = 30.0
"""A model that has made no error in a hundred clips must not say 100.000 % either."""

NUM_FRAMES, MODEL_FPS, VIDEO_FPS = 16, 15, 30


def fit_checkpoint(folder: Path) -> Path:
    """Write checkpoint.pth and labels.txt into `folder`; returns the path of the first. One that was made by the same code and
    the same torch is left as it is."""
    checkpoint, labels, stamp = folder / "checkpoint.pth", folder / "labels.txt", folder / "checkpoint.json"
    made_by = json.dumps(
        {
            "torch": torch.__version__,
            "drawn_by": drawing_version(),
            "fitted_by": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16],
        }
    )
    if checkpoint.exists() and labels.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == made_by:
        return checkpoint
    stamp.unlink(missing_ok=True)

    keep_freed_memory()
    network = _untrained_backbone()
    features = np.concatenate([_features(network, seed) for seed in FIT_SEEDS])
    weight, bias = fit_last_layer(features, np.tile(np.arange(len(ACTIONS)), len(FIT_SEEDS)))
    network.fc = nn.Linear(len(weight[0]), len(ACTIONS))
    state = network.state_dict()
    state["fc.weight"], state["fc.bias"] = torch.from_numpy(weight), torch.from_numpy(bias)

    buffer = BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, buffer)
    write_atomically(labels, "".join(f"{action}\n" for action in ACTIONS).encode())
    write_atomically(checkpoint, buffer.getvalue())
    write_atomically(stamp, made_by.encode())  # last: it vouches for the other two
    return checkpoint


def preprocessed_clip(action: str, *, seed: int) -> Tensor:
    """One model input, [3, 16, 112, 112]: drawn, sent through H.264 as the archive's videos are, and sampled at 15 fps."""
    step = VIDEO_FPS // MODEL_FPS
    drawn = actions.frames(action, seed=seed, num_frames=step * NUM_FRAMES, fps=VIDEO_FPS)
    with av.open(BytesIO(encode(drawn, fps=VIDEO_FPS)), "r") as container:
        # Drawn a moment ago at a constant rate: here, and only here, the number of a frame tells its time.
        pixels = [
            frame.to_ndarray(format="rgb24") for number, frame in enumerate(container.decode(video=0)) if number % step == 0
        ]
    clip: Tensor = R3D_18_Weights.KINETICS400_V1.transforms()(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    return clip


def fit_last_layer(
    features: NDArray[np.float64], classes: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weight [classes, width] and bias [classes] whose logits for `features` [n, width] name `classes` [n], and whose
    softmax means what it says.

    Ridge regression on one-hot targets in its dual form, since there are more features than clips; leave-one-out residuals in
    closed form (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., eq. 7.64). The logits are then
    scaled so that the cross-entropy of the left-out clips is least: of the clips fitted on, the model would be far too sure.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread += SPREAD_FLOOR * spread.mean()
    standard = (features - mean) / spread
    targets = np.eye(classes.max() + 1)[classes]
    base = targets.mean(axis=0)
    gram = standard @ standard.T
    inverse = np.linalg.inv(gram + RIDGE * len(features) * np.eye(len(features)))
    dual = inverse @ (targets - base)

    leverage = np.diag(gram @ inverse) + 1 / len(features)  # the second term is the intercept's
    left_out = targets - (targets - base - gram @ dual) / (1 - leverage)[:, None]
    scale = min(np.geomspace(1, LARGEST_SCALE, 100), key=lambda scale: _cross_entropy(scale * left_out, classes))

    weight = scale * (standard.T @ dual / spread[:, None]).T
    bias = scale * base - weight @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def _cross_entropy(logits: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float(log_softmax[np.arange(len(classes)), classes].mean())


def _untrained_backbone() -> VideoResNet:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had happened
        torch.manual_seed(0)
        network = r3d_18(num_classes=len(ACTIONS))
    # Colours are drawn at random and tell nothing of the action: with filters that see brightness alone, few clips suffice.
    stem: Tensor = network.stem[0].weight.data
    stem.copy_(stem.mean(dim=1, keepdim=True).expand_as(stem))
    network.fc = nn.Identity()
    return network.eval().to(memory_format=torch.channels_last_3d)


def _features(network: VideoResNet, seed: int) -> NDArray[np.float64]:
    """[actions, 512]: what goes into the last layer, for one clip of every action."""
    with ThreadPoolExecutor(2) as pool:
        clips = list(pool.map(lambda action: preprocessed_clip(action, seed=seed), ACTIONS))
    # Half the time where the processor has it in hardware, many times slower where not; the cosine to fp32 is above 0.9999.
    capabilities = torch.cpu.get_capabilities()
    has_bf16 = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bf16):
        features: Tensor = network(torch.stack(clips).to(memory_format=torch.channels_last_3d))
    return features.double().numpy()
