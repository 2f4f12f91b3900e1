"""Runs decoding and inference over many videos. `local` does it in this process, `ray` on all cores or a cluster."""

from __future__ import annotations

from indexer.config import Job
from indexer.execute.base import Executor


def make_executor(job: Job, *, local: bool) -> Executor:
    """The executor for `job`; nothing heavy is imported or started before its `start`."""
    if local:
        from indexer.execute.local import LocalExecutor

        return LocalExecutor(job)
    from indexer.execute.ray import RayExecutor

    return RayExecutor(job)
