"""What the kernel says of a process in `/proc`, as far as it tells one process from another."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from supervisor.reattach import ProcessIdentity

__all__ = ["Entry", "boot_id", "identify", "is_below", "read_entry"]

_DEPTH = 64
_INIT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One process.

    Attributes:
        state: the kernel's letter; `Z` and `X` have ended.
        parent: the parent's process id.
        group: its process group.
        session: its session.
        started: clock ticks from boot to its start.
        owner: the user that it runs as.
    """

    state: str
    parent: int
    group: int
    session: int
    started: int
    owner: int

    @property
    def ended(self) -> bool:
        """Whether it only waits to be reaped."""
        return self.state in {"Z", "X"}


def read_entry(pid: int) -> Entry | None:
    """Look a process up; None when there is none, or nobody says."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything; proc(5) counts from 1.
            fields = file.read().rpartition(b")")[2].split()
            owner = os.fstat(file.fileno()).st_uid
    except OSError:
        return None
    state, parent, group, session = fields[0].decode(), *map(int, fields[1:4])
    return Entry(state=state, parent=parent, group=group, session=session, started=int(fields[22 - 3]), owner=owner)


@cache
def boot_id() -> str:
    """Return what names this boot of the machine; empty where there is nothing of the kind."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def identify(pid: int, *, lineage: str = "", directory: str = "") -> ProcessIdentity:
    """Return what tells a running process from every other; its pid must not be free to be another's."""
    entry = read_entry(pid)
    started = entry.started if entry is not None else 0
    return ProcessIdentity(pid=pid, started=started, boot_id=boot_id(), lineage=lineage, directory=directory)


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is another one or descends from it, by parents that are still alive."""
    for _ in range(_DEPTH):
        if pid == ancestor:
            return True
        entry = read_entry(pid)
        if entry is None or entry.parent <= _INIT:
            return False
        pid = entry.parent
    return False
