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
    gpus = (1.0 if available else 0.0) if wanted == "auto" else float(wanted)
    if gpus * fewest > available:
        needed = f"{gpus:g} GPUs for one model" if fewest == 1 else f"{fewest} models with {gpus:g} GPUs each"
        raise ConfigError(f"ray.gpus_per_actor: {needed}, but Ray sees {available:g}; use fewer, auto or 0")
    return gpus, most if gpus == 0 else min(most, int(available / gpus))


def authentication_hint(job: Job) -> str:
    """What is most often wrong with joining a cluster."""
    if job.ray.address is None:
        return ""
    mode = os.environ.get("RAY_AUTH_MODE", "disabled")
    return (
        f" Ray's token authentication is {'on' if mode == 'token' else 'off'} here (RAY_AUTH_MODE={mode});"
        " it must be the same in the cluster, with the same token."
    )
