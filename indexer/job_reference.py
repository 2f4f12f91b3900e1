"""The job file's keys for people to look up: `indexer schema keys`, whose committed rendering is docs/job-file.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from indexer.config import job_schema

_HEAD = """# The job file

Written by `make schemas`, from the same words that the editor shows ([the schema](../schemas/job.schema.json));
[jobs/archive.yaml](../jobs/archive.yaml) is an example with every key.

- Relative paths are relative to the job file. `${VAR}` and `${VAR:-default}` are filled in from the environment; passwords and
  keys belong there, not into the file.
- Durations (`90s`, `10m`, `1h30m`, `36h`), sizes (`512M`, `2G`) and shares (`0.2`, `20%`) are written with their units.
- A key that is not known, or a value that is not allowed, ends with exit code 2 and `file:line key: what is allowed`.
- A change of `model.name`, `model.weights`, `model.labels`, `sampling`, `output.top_k` or `output.min_score` makes a new
  recipe: every video is indexed anew, and what was found before stays searchable until then. No other key does.
"""


def job_reference() -> str:
    """Markdown: a table for each section, with every key, its default and what it means."""
    schema = job_schema()
    sections = schema["properties"]
    lines = [_HEAD]
    lines += ["| key | default | |", "|---|---|---|", _row("name", sections["name"], required=True), ""]
    for name, section in sections.items():
        if "properties" in section:
            required = section.get("required", ())
            lines += [f"## {name}", "", section["description"], "", "| key | default | |", "|---|---|---|"]
            lines += [_row(f"{name}.{key}", value, required=key in required) for key, value in section["properties"].items()]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(key: str, value: dict[str, Any], *, required: bool) -> str:
    default = value.get("default")
    if required:
        shown = "required"
    elif isinstance(default, list) and len(default) > 5:
        shown = ""  # its description says what it is
    else:
        shown = f"`{default if isinstance(default, str) else json.dumps(default)}`"
    allowed = "; ".join(_allowed(value))
    text = value["description"] + (f" Allowed: {allowed}." if allowed else "")
    return f"| `{key}` | {shown} | {text.replace('|', '&#124;')} |"


def _allowed(value: dict[str, Any]) -> Iterator[str]:
    """What the schema says in other words than a pattern."""
    for form in value.get("anyOf", [value]):
        if "enum" in form and len(form["enum"]) > 1 and not any(word in value["description"] for word in form["enum"][:2]):
            yield ", ".join(f"`{word}`" for word in form["enum"])
        elif "minimum" in form and "maximum" in form and form["maximum"] != 1:
            yield f"{form['minimum']} to {form['maximum']:,}"
