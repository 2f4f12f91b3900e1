"""Who listens on this machine for the whole network, and with which environment: as Linux tells it in /proc."""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"


def open_ports(wanted: Collection[int]) -> dict[int, Mapping[str, str]]:
    """Those of the ports that somebody listens at, on another address than loopback.

    With each comes the environment of that process, which says how it was started; an empty one if it may not be read.
    """
    sockets = {inode: port for port, inode in _listening() if port in wanted}
    environments = _environments(set(sockets)) if sockets else {}
    return {port: environments.get(inode, {}) for inode, port in sockets.items()}


def _listening() -> Iterator[tuple[int, str]]:
    """Port and inode of each socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                address, port = local.split(":")
                if state == _LISTENING and not is_loopback(address):
                    yield int(port, 16), inode


def _environments(inodes: Collection[str]) -> dict[str, Mapping[str, str]]:
    """Inode of a socket -> environment of a process that has it open."""
    found: dict[str, Mapping[str, str]] = {}
    links = {f"socket:[{inode}]": inode for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            opened = {links[str(target)] for file in (process / "fd").iterdir() if str(target := file.readlink()) in links}
            if opened:
                lines = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                environment = dict(line.split("=", 1) for line in lines if "=" in line)
                found |= dict.fromkeys(opened, environment)
    return found


def is_loopback(address: str) -> bool:
    """Of an address as /proc/net shows it: words of four bytes, each in the order of this machine."""
    words = [int(address[place : place + 8], 16).to_bytes(4, sys.byteorder) for place in range(0, len(address), 8)]
    last = words[-1]
    if len(words) == 1 or socket.inet_ntop(socket.AF_INET6, b"".join(words)).startswith("::ffff:"):
        return last[0] == 127
    return b"".join(words) == bytes(15) + b"\x01"
