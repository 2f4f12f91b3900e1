"""What a run can be told of at: its start, and how it ended."""

from __future__ import annotations

from typing import Literal

Moment = Literal["start", "complete", "partial", "stopped", "failed"]
