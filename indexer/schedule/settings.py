"""The section `schedule` of a job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from indexer import fields
from indexer.schedule import times


class Schedule(fields.Section):
    """When the job is to run by itself. `indexer schedule` makes the files for cron, systemd or Kubernetes that do it."""

    cron: Annotated[str, fields.reads(times.cron_text, fields.text(times.CRON_TEXT))] | None = Field(
        default=None,
        description='Cron expression, in quotes: "15 1 * * *" is every night at 01:15. null: somebody else starts the runs.',
    )
    time_zone: Annotated[str, fields.reads(times.time_zone, fields.text(times.ZONE_TEXT))] = Field(
        default="UTC", description="Time zone of cron, such as Europe/Berlin."
    )
