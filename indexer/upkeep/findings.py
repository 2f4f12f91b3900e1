"""What a check can find, in words that stay the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexer.catalog.audit import OneResult

CURES = {
    **dict.fromkeys(
        ("part_missing", "part_size", "part_damaged"),
        "Put the file back from a copy; or `indexer check JOB --deep --repair`, and the next run makes its videos again.",
    ),
    **dict.fromkeys(
        ("video_rows", "video_hits", "result_state"),
        "`indexer check JOB --deep --repair`, and the next run makes this video again.",
    ),
    "stray_hits": "`indexer check JOB --repair` removes them.",
    "label_counts": "`indexer check JOB --repair` counts them anew.",
    "part_state": "`indexer check JOB --repair` sets it right.",
    "database_damaged": "Copy the file to a sound disk, then `indexer rebuild JOB` makes the catalog new from the parts.",
    "orphan": "`indexer gc JOB` deletes it. If the catalog was lost, or is the wrong one: `indexer rebuild JOB` adopts it.",
    "unknown_video": "`indexer gc JOB` deletes the file, if no live row is in it; `indexer rebuild JOB` would adopt it.",
    "orphan_new": "Nothing to do: a run may be about to commit it, or was killed; `indexer gc JOB` deletes it after a day.",
    "part_unread": "Nothing to do: none of its rows is live, and `indexer gc JOB` deletes it in the end.",
}
"""Code -> what to do."""
_NO_FAULTS = ("orphan_new", "part_unread")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    """A key of CURES."""
    subject: str
    """The name of a part, the uri of a video, or what else it is about."""
    message: str
    damaged: tuple[OneResult, ...] = ()
    """The results whose rows cannot be relied on."""

    @property
    def is_fault(self) -> bool:
        return self.code not in _NO_FAULTS

    def as_document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "subject": self.subject,
            "message": self.message,
            "cure": CURES[self.code],
            "fault": self.is_fault,
            "videos": [one.uri for one in self.damaged],
        }
