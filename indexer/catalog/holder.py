"""The process that holds a lease, described so that another one on the same machine can tell whether it still lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """One process of one machine, and no later one that happens to have its number."""

    host: str
    """The name of the machine, for people."""
    kernel: str
    """One boot of one machine, and one container of it: where process numbers mean the same. Empty if the system has no
    words for it."""
    pid: int
    began: str
    """When the process began, in ticks of that boot."""

    @classmethod
    def this_process(cls) -> Holder:
        began, _ = _life(os.getpid())
        return cls(os.uname().nodename, _kernel(), os.getpid(), began)

    def is_gone(self) -> bool:
        """Whether it is certain that the process lives no more."""
        if not self.kernel or (self.host, self.kernel) != (os.uname().nodename, _kernel()):
            return False  # it cannot be seen from here
        try:
            os.kill(self.pid, 0)  # tells also of processes that /proc hides from this user
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        began, state = _life(self.pid)
        return bool(began) and (began != self.began or state in "ZX")


def _kernel() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _life(pid: int) -> tuple[str, str]:
    """When a process began, and the letter of its state (Z: dead, but not buried); empty if that cannot be read."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[19], fields[0]
