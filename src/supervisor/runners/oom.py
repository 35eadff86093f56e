"""Whether the kernel's out-of-memory killer was at work in a process's memory cgroup.

Read only, and a matter of luck: a missing or strange file means "don't know", which counts as no.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["OomCounter"]

CGROUP_ROOT = "/sys/fs/cgroup"


class OomCounter:
    """The `oom_kill` counter of the cgroup that a process was in when this was created.

    The counter covers the whole cgroup: without a cgroup of its own, a plugin shares it with its host.
    """

    __slots__ = ("_before", "_file")

    def __init__(self, pid: int, *, root: str = CGROUP_ROOT, proc: str = "/proc") -> None:
        self._file: str | None = None
        self._before = 0
        for file in _candidates(_read(f"{proc}/{pid}/cgroup"), root):
            count = _count(_read(file))
            if count is not None:
                self._file, self._before = file, count
                return

    def increased(self) -> bool:
        """Whether it has counted a kill since then."""
        now = _count(_read(self._file)) if self._file is not None else None
        return now is not None and now > self._before


def _candidates(membership: str, root: str) -> Iterator[str]:
    """Yield where the counter may be: the version 1 controller if one is mounted, then version 2.

    Inside a container the path may be the host's, of which only the mounted part is visible: then the root is ours.
    """
    for line in membership.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            bases, name = [f"{root}/memory"], "memory.oom_control"
        elif hierarchy == "0" and not controllers:
            bases, name = [root, f"{root}/unified"], "memory.events"
        else:
            continue
        for base in bases:
            for folder in (path.strip("/"), ""):
                yield os.path.join(base, folder, name)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _count(text: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill" and value.isascii() and value.isdigit() and len(value) < 20:  # noqa: PLR2004 - 64 bits
            return int(value)
    return None
