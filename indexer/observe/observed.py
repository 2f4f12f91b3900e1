"""Who hears a run: whoever started it, and all that its job wants told besides."""

from __future__ import annotations

from indexer.config import Job
from indexer.observe.listeners import Listeners
from indexer.observe.page import RunPage
from indexer.observe.runlog import open_log
from indexer.report import Reporter


def observed(job: Job, reporter: Reporter) -> Reporter:
    """`reporter`, and the others. Those that may have to warn come first: `run_finished` is the last event of all."""
    log = open_log(job, reporter.warn)
    told = Listeners([reporter] if log is None else [log, reporter])
    others: list[Reporter] = []
    if job.monitor.metrics is not None:
        from indexer.observe.metrics import MetricsFile  # a tenth of a second, for those who want it

        others.append(MetricsFile(job, told.warn))
    if job.monitor.notify:
        from indexer.observe.webhooks import Webhooks

        others.append(Webhooks(job, told.warn))
    return Listeners([*others, RunPage(job, told.warn), told])
