"""The section `monitor` of a job file."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import AfterValidator, Field, field_validator

from indexer import fields
from indexer.observe.moments import Moment


def _address(url: str) -> str:
    if not url.startswith(("https://", "http://")) or "/" not in url.split("://", 1)[1]:
        raise ValueError("is not the address of a webhook; write for example https://hooks.example.com/${HOOK}")
    if not all("!" <= character <= "~" for character in url):
        raise ValueError("has a space or a letter that no address has; write its bytes in hexadecimal, such as %C3%BC for ü")
    return url


class Monitor(fields.Section):
    """Who else is told how runs go. Changing it changes no result."""

    metrics: Annotated[str, AfterValidator(fields.absolute_path)] | None = Field(
        default=None,
        description="Path of a file for Prometheus' textfile collector, written anew during and after each run. null: none.",
    )
    notify: tuple[str, ...] = Field(
        default=(), description="Addresses of webhooks. Their secrets belong into the environment: https://host/${HOOK}."
    )
    notify_on: tuple[Annotated[Moment, fields.one_of(get_args(Moment))], ...] = Field(
        default=("complete", "partial", "failed"),
        description="What webhooks are told of: start, complete, partial, stopped, failed; stale (by status --max-age).",
    )

    @field_validator("notify")
    @classmethod
    def _are_addresses(cls, notify: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_address(url) for url in notify)
