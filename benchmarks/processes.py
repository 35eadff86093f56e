"""What is done with processes from outside: ending them in order, and keeping them to some processors."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

__all__ = ["ended", "family", "kept_to"]


@asynccontextmanager
async def ended(process: Process, *, within: float) -> AsyncIterator[None]:
    """On leaving, end the process by the end of its standard input, and kill it when that does not help in time."""
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it and they have started."""
    yield pid
    for thread in _threads(pid):
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from family(int(child))


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []  # it ended


@contextmanager
def kept_to(pid: int, processors: Collection[int]) -> Iterator[None]:
    """Have all threads of a process and its descendants run on these processors only, and on all of ours afterwards."""
    before = os.sched_getaffinity(0)
    _bind(pid, processors)
    try:
        yield
    finally:
        _bind(pid, before)


def _bind(pid: int, processors: Collection[int]) -> None:
    for member in family(pid):
        for thread in _threads(member):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, processors)
