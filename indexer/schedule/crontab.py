"""One line for a crontab, with a lock and a log."""

from __future__ import annotations

import shlex

from indexer.schedule.command import Command
from indexer.schedule.times import portable

_STATE = "$HOME/.local/state/indexer"


def crontab(command: Command, cron: str, zone: str) -> dict[str, str]:
    """File name -> text."""
    name = command.job.name
    run = " ".join(shlex.quote(word) for word in command.words)
    line = f'mkdir -p "{_STATE}" && flock -n -E 11 "{_STATE}/{name}.lock" {run} >> "{_STATE}/{name}.log" 2>&1'
    line = line.replace("%", r"\%")  # else it ends the command
    variables = "".join(f"# {name}=...\n" for name in command.variables)
    needed = f"# cron knows nothing of your shell. Give these their values here:\n{variables}" if variables else ""
    text = f"""\
# Add with `crontab -e`. What it says goes to ~/.local/state/indexer/{name}.log; a run that finds another one at work ends
# at once, with exit code 11. CRON_TZ is for cronie (Red Hat, Fedora, Arch); the cron of Debian and Ubuntu takes the time
# zone of the machine instead: where that is not {zone}, use `--as systemd`.
{needed}CRON_TZ={zone}
{portable(cron)} {line}
"""
    return {f"indexer-{name}.crontab": text}
