"""Who can tell that a process is gone, whatever became of its pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time

__all__ = ["Witness"]


class Witness:
    """Holds pidfds of processes that need not be ours. What it still sees alive when it is closed is killed."""

    def __init__(self) -> None:
        self._pidfds: dict[int, int] = {}

    def watch(self, *pids: int) -> None:
        """Watch processes, which must be alive or at least not reaped."""
        for pid in pids:
            self._pidfds[pid] = os.pidfd_open(pid)

    def survivors(self, *, within: float = 0.0) -> set[int]:
        """Return who is alive after `within` seconds; blocks, and returns at once when nobody is."""
        deadline = time.monotonic() + within
        alive = set()
        for pid, pidfd in self._pidfds.items():
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                alive.add(pid)
        return alive

    async def last_death(self, *, within: float) -> float:
        """Wait until all are gone and return the loop's time of the last one's death.

        Raises:
            TimeoutError: somebody is alive after `within` seconds.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within):
            for pidfd in self._pidfds.values():
                gone = asyncio.Event()
                loop.add_reader(pidfd, gone.set)
                try:
                    await gone.wait()
                finally:
                    loop.remove_reader(pidfd)
        return loop.time()

    def close(self) -> None:
        """Kill the survivors: a test that fails must not leave them to the next one."""
        for pidfd in self._pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._pidfds.clear()
