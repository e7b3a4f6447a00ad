"""Who is running emc, and does that process still live?"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Runner:
    """One process."""

    host: str
    pid: int
    user: str
    """The operating system's user, not the database's."""
    process: str | None
    """What tells this process from any other that ever had its pid: boot of the machine, namespace of the
    pid, and
    start time. ``None`` where the system does not tell (not Linux)."""

    @classmethod
    def current(cls) -> Runner:
        """The process that asks."""
        pid = os.getpid()
        started = _started(pid)
        space = _space()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            user=_user(),
            process=f"{space} {started}" if space and started else None,
        )

    def is_gone(self) -> bool:
        """Whether the process has certainly ended; ``False`` whenever that cannot be told from here.

        A pid says something only to those who share its namespace on the same boot of the same machine: two
        containers may have the same host name, and both may run as pid 1.
        """
        if self.process is None:
            return False
        space, _, started = self.process.rpartition(" ")
        if not space or space != _space():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # Somebody else's process has the pid; whether it is the one, the start time tells.
        found = _started(self.pid)
        # A zombie has no start time below; no file to read means that /proc is hidden from us, which says
        # nothing.
        return found is not None and found != started

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.pid}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container may run under a uid that no user has.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _space() -> str | None:
    """This boot of this machine, and the namespace in which pids count here."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return None
    return f"{boot} {namespace}"


def _started(pid: int) -> str | None:
    """When process *pid* started, in clock ticks since boot.

    ``"ended"`` for a zombie, which only waits for its parent to notice; ``None`` where nothing tells.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may hold spaces and parentheses. proc(5): state is
    # the third field, starttime the 22nd.
    state, *rest = stat.rpartition(")")[2].split()
    return "ended" if state in {"Z", "X"} else rest[18]
