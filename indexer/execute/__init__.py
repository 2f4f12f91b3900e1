"""Runs decoding and inference over many videos. `local` does it in this process, `ray` on all cores or a cluster."""

from __future__ import annotations

import os
from pathlib import Path

from indexer.config import Job
from indexer.execute.base import Executor


def make_executor(job: Job, *, local: bool) -> Executor:
    """The executor for `job`; nothing heavy is imported or started before its `start`."""
    if local:
        from indexer.execute.local import LocalExecutor

        return LocalExecutor(job)
    _set_ray_environment(cluster=job.ray.address is not None)
    from indexer.execute.on_ray import RayExecutor

    return RayExecutor(job)


def _set_ray_environment(*, cluster: bool) -> None:
    """What Ray reads when it is imported, unless the user has set it."""
    # Under `uv run` Ray would send the folder it was called in, videos and all, to each worker. They have what they need.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if not cluster:
        # Ray would have its workers step back (15) behind everything else on the machine: beside a few busy processes a run
        # all but stands still. Who wants that says `nice indexer run`.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # Whatever its name says: off means that all ports listen on loopback only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    elif (
        "RAY_AUTH_TOKEN" in os.environ
        or Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser().exists()
    ):
        # Ray shows its token by itself to a cluster that it starts, but not to one that it joins.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
