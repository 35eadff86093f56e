"""Time and CPU time of this process and of others, at the scheduler's own resolution. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from benchmarks.figures import Used

__all__ = ["Meter", "cpu_seconds"]

_CPUCLOCK_SCHED = 2


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used, user and system, all of their threads.

    The number of another process's clock is made as `clock_getcpuclockid(3)` makes it.

    Raises:
        OSError: there is no such process.
    """
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


class Meter:
    """What is used from now on, by this process and by servers."""

    def __init__(self, server_pids: Iterable[int]) -> None:
        self._client = (os.getpid(),)
        self._servers = tuple(server_pids)
        self._client_cpu = cpu_seconds(self._client)
        self._server_cpu = cpu_seconds(self._servers)
        self._begun = time.perf_counter()

    def read(self) -> Used:
        """Return what was used so far."""
        return Used(
            seconds=time.perf_counter() - self._begun,
            client_cpu=cpu_seconds(self._client) - self._client_cpu,
            server_cpu=cpu_seconds(self._servers) - self._server_cpu,
        )
