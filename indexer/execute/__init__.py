"""Runs decoding and inference over many videos. `local` does it in this process, `ray` on all cores or a cluster."""

from __future__ import annotations

import os

from indexer.config import Job
from indexer.execute.base import Executor


def make_executor(job: Job, *, local: bool) -> Executor:
    """The executor for `job`; nothing heavy is imported or started before its `start`."""
    if local:
        from indexer.execute.local import LocalExecutor

        return LocalExecutor(job)
    if job.ray.address is None:
        # Ray reads this when it is imported. Whatever its name says: off means that its ports listen on loopback only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from indexer.execute.ray import RayExecutor

    return RayExecutor(job)
