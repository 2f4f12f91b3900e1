"""A systemd service and its timer. A timer never starts a unit that is still active, so runs cannot overlap."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from indexer.schedule.command import Command
from indexer.schedule.times import times_of

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def calendars(cron: str, zone: str) -> list[str]:
    """The values of OnCalendar= that together mean the same as a cron expression: two, where cron takes either day field."""
    times = times_of(cron)
    clock = f"{_numbers(times.hours)}:{_numbers(times.minutes)}:00 {zone}"
    weekdays = "" if times.weekdays is None else ",".join(_DAYS[day] for day in times.weekdays) + " "
    month, day = _numbers(times.months), _numbers(times.days)
    if times.days is not None and times.weekdays is not None:
        return [f"*-{month}-{day} {clock}", f"{weekdays}*-{month}-* {clock}"]
    return [f"{weekdays}*-{month}-{day} {clock}"]


def units(command: Command, cron: str, zone: str, user: str) -> dict[str, str]:
    """File name -> text."""
    name = f"indexer-{command.job.name}"
    folders = [*command.writable_folders, str(Path.home() / ".ray")]  # Ray keeps its token there
    writable = "".join(f"ReadWritePaths={_quoted(folder)}\n" for folder in folders)
    made = "".join(f"#     install -d -o {user} {shlex.quote(folder)}\n" for folder in folders)
    variables = ", ".join(command.variables)
    file = f"/etc/indexer/{command.job.name}.env"
    needed = f"#     {file}     with a line NAME=value for each of: {variables}\n" if variables else ""
    service = f"""\
# /etc/systemd/system/{name}.service
#
# Before the first run, as root, as far as they are not there:
{made}{needed}#     systemctl daemon-reload && systemctl enable --now {name}.timer
# By hand: systemctl start {name}. What it said: journalctl -u {name}

[Unit]
Description=Index new videos of {command.job.name}
Wants=network-online.target
After=network-online.target remote-fs.target

[Service]
Type=oneshot
User={user}
ExecStart={" ".join(_quoted(word).replace("$", "$$") for word in command.words)}
EnvironmentFile=-{file}
# Weights and other things that may be fetched again go to /var/cache/indexer.
CacheDirectory=indexer
Environment=XDG_CACHE_HOME=/var/cache/indexer
# 3: finished, but some videos failed, which `indexer failures` lists. Remove this line to have that count as a failed unit.
SuccessExitStatus=3
# The first signal goes to the run alone, which commits what is finished; what is left after that is killed.
KillMode=mixed
TimeoutStopSec=120
Nice=10

NoNewPrivileges=true
CapabilityBoundingSet=
PrivateTmp=true
ProtectSystem=strict
ProtectHome=read-only
{writable}ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
RestrictSUIDSGID=true
RestrictRealtime=true
RestrictNamespaces=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=true
UMask=0027
"""
    lines = "".join(f"OnCalendar={calendar}\n" for calendar in calendars(cron, zone))
    timer = f"""\
# /etc/systemd/system/{name}.timer

[Unit]
Description=Index new videos of {command.job.name}: {cron} ({zone})

[Timer]
{lines}# A run that was missed while the machine was off begins when it is on again.
Persistent=true
AccuracySec=1min

[Install]
WantedBy=timers.target
"""
    return {f"{name}.service": service, f"{name}.timer": timer}


def _numbers(values: Sequence[int] | None) -> str:
    """1,2,3,7 as 01..03,07."""
    if values is None:
        return "*"
    spans: list[list[int]] = []
    for value in values:
        if spans and spans[-1][1] == value - 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ",".join(f"{first:02d}" if first == last else f"{first:02d}..{last:02d}" for first, last in spans)


def _quoted(word: str) -> str:
    """As one word in a unit file, in which % means something, and \\ and quotes do in quotes."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return word if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", word) else f'"{word}"'
