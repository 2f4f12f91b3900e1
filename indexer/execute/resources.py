"""What a machine or cluster has, and what each worker gets of it. Knows nothing of Ray."""

from __future__ import annotations

import os
import socket

from indexer.config import Job
from indexer.errors import ConfigError, ExecutionError

CONNECT_SECONDS = 10.0
"""For a cluster to answer at all."""
DECODE_MEMORY_SHARE = 0.8
DECODE_MEMORY_BYTES = (1 << 30, 4 << 30)
"""Of the machine's memory, all decoders together may take this share, each one within these bounds."""
NVDEC_MODEL_GPUS = 0.8
"""What `auto` gives a model where decoders use the GPU, too. Shares only count who may use it; they set no limit."""
_GPU_PARTS = 10_000
"""Ray counts a GPU in so many parts."""


def check_reachable(address: str) -> None:
    """Raises ExecutionError if nobody listens at `address`. Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise ExecutionError(f"ray.address: nothing answers at {address}: {error.strerror or error}") from error


def decode_memory(memory_bytes: float, decoders: int) -> int:
    least, most = DECODE_MEMORY_BYTES
    return int(max(least, min(most, DECODE_MEMORY_SHARE * memory_bytes / decoders)))


def gpus_per_actor(job: Job, available: float) -> tuple[float, int]:
    """GPUs for one model, and how many models there may be. Raises ConfigError for more than the cluster has."""
    fewest, most = job.ray.actors
    wanted = job.ray.gpus_per_actor
    whole = NVDEC_MODEL_GPUS if job.decode.backend == "nvdec" else 1.0
    gpus = (whole if available else 0.0) if wanted == "auto" else float(wanted)
    # A part of a GPU is one part of one GPU: two of them have room for two models with 0.6 each, not for three.
    room = int(available) * int(1 / gpus) if 0 < gpus < 1 else int(available / gpus) if gpus else most
    if fewest > room:
        needed = f"{gpus:g} GPUs for one model" if fewest == 1 else f"{fewest} models with {gpus:g} GPUs each"
        raise ConfigError(f"ray.gpus_per_actor: {needed}, but Ray sees {available:g}; use fewer, auto or 0")
    return gpus, min(most, room)


def gpus_per_decoder(job: Job, available: float, models_gpus: float, decoders: int) -> float:
    """GPUs for one decode task: its part of what all models together leave. Raises ConfigError if that is nothing."""
    if job.decode.backend != "nvdec" or not available:
        return 0.0
    share = int((available - models_gpus) / decoders * _GPU_PARTS) / _GPU_PARTS
    if share <= 0:
        raise ConfigError(
            f"decode.backend: nvdec needs a GPU, and the models take all {available:g} that Ray sees; "
            "set ray.gpus_per_actor to auto or lower, or decode.backend to auto"
        )
    return min(share, 1.0)


def authentication_hint(job: Job) -> str:
    """What is most often wrong with joining a cluster."""
    if job.ray.address is None:
        return ""
    mode = os.environ.get("RAY_AUTH_MODE", "disabled")
    return (
        f" Ray's token authentication is {'on' if mode == 'token' else 'off'} here (RAY_AUTH_MODE={mode});"
        " it must be the same in the cluster, with the same token."
    )
