"""What a check may find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check, as one line."""

    state: State
    message: str
    fix: str = ""
    """What to do about it; may be part of `message`."""
    exit_code: int = 0
    """Of a failed one: the code with which a run would end."""


def ok(message: str) -> Finding:
    return Finding("ok", message)


def warning(message: str, fix: str = "") -> Finding:
    return Finding("warning", message, fix)


def failed(message: str, fix: str = "", *, exit_code: int = 1) -> Finding:
    return Finding("failed", message, fix, exit_code)
