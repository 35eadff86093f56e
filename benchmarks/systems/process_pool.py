"""The standard library's way to call code in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context

from benchmarks.contract import KEY
from benchmarks.servers.process_pool import get

__all__ = ["connect"]


class Pool:
    """One worker, as the others have one server."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self.server_pids: tuple[int, ...] = ()

    async def start(self) -> None:
        """Start the worker."""
        await self.call()
        self.server_pids = tuple(self._executor._processes)  # noqa: SLF001  # there is no public way to its pid

    async def call(self) -> bytes:
        return await self._loop.run_in_executor(self._executor, get, KEY)


@asynccontextmanager
async def connect(*_: str) -> AsyncIterator[Pool]:
    """Start a pool."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as executor:
        pool = Pool(executor)
        await pool.start()
        yield pool
