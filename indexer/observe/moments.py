"""What webhooks can be told of: the start of a run, how it ended, and that none has ended well for too long."""

from __future__ import annotations

from typing import Literal

Moment = Literal["start", "complete", "partial", "stopped", "failed", "stale"]
