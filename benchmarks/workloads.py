"""What a client does for one slice, measured from inside: latencies by its own clock, CPU by the processes' clocks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable

from benchmarks.figures import Slice

__all__ = ["cpu_seconds", "run_unary"]

_CPUCLOCK_SCHED = 2


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used, all of their threads, at the scheduler's own resolution.

    Linux only: the number of another process's clock is made as `clock_getcpuclockid(3)` makes it.

    Raises:
        OSError: there is no such process.
    """
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


async def run_unary(
    call: Callable[[], Awaitable[object]], *, in_flight: int, seconds: float, server_pids: Iterable[int]
) -> Slice:
    """Keep `in_flight` calls under way for `seconds`: as many callers, each of which calls again at once.

    Calls that have begun are finished and counted, at least one by each caller.
    """
    latencies: list[float] = []
    client, servers = (os.getpid(),), tuple(server_pids)
    client_cpu, server_cpu = cpu_seconds(client), cpu_seconds(servers)
    begin = time.perf_counter()
    until = begin + seconds

    async def caller() -> None:
        now = time.perf_counter()
        while True:
            await call()
            done = time.perf_counter()
            latencies.append(done - now)
            now = done
            if now >= until:
                return

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return Slice(
        latencies=latencies,
        seconds=time.perf_counter() - begin,
        client_cpu=cpu_seconds(client) - client_cpu,
        server_cpu=cpu_seconds(servers) - server_cpu,
    )
