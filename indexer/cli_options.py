"""Arguments and options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file, such as jobs/archive.yaml", show_default=False)]
JobOption = Annotated[Path, typer.Option("--job", metavar="JOB", help="The job file of the index.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
