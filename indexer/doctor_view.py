"""`indexer doctor`: what was found, a line for each check."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from indexer.config import Job, load_job
from indexer.console import printable
from indexer.doctor.examine import checks_for, examine
from indexer.doctor.findings import Finding, failed, ok
from indexer.errors import ConfigError
from indexer.quantities import duration_seconds
from indexer.views import out, print_json

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def show_doctor(path: Path | None, *, timeout: str, as_json: bool) -> int:
    """Gives the exit code: 0, or that of the first check that failed, which is the one a run would end with."""
    try:
        limit_seconds = duration_seconds(timeout, least="1s", most="1h")
    except ValueError as error:
        raise ConfigError(f"--timeout: {error}") from None
    findings: dict[str, Finding] = {}

    def show(name: str, finding: Finding) -> None:
        findings[name] = finding
        if not as_json:
            out().print(_line(name, finding))

    job: Job | None = None
    if path is not None:
        try:
            job = load_job(path)
            show("job", ok(f"{path}: {job.name}"))
        except ConfigError as error:
            show("job", failed(str(error), exit_code=error.exit_code))
    for name, finding in examine(checks_for(job), limit_seconds=limit_seconds):
        show(name, finding)
    code = next((finding.exit_code for finding in findings.values() if finding.state == "failed"), 0)
    if as_json:
        print_json({"checks": [{"name": name} | asdict(finding) for name, finding in findings.items()], "exit_code": code})
    return code


def _line(name: str, finding: Finding) -> Text:
    said = " ".join(f"{finding.message.rstrip('.')}. {finding.fix}".split()) if finding.fix else finding.message
    return Text.assemble((f"{finding.state:<8}", _STYLES[finding.state]), f"{name:<12}", printable(said.replace("\n", "; ")))
