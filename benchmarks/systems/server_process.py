"""A server of `benchmarks.servers` in a process of its own, for systems that do not start their servers themselves."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.contract import PROJECT
from benchmarks.processes import ended

__all__ = ["serving"]

_PATIENCE = 20.0
"""Seconds to start, and to end."""


@asynccontextmanager
async def serving(name: str, loop: str = "asyncio") -> AsyncIterator[tuple[str, int]]:
    """Start a server and yield the path of its unix socket and its pid, once it listens; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = str(Path(folder) / "socket")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"benchmarks.servers.{name}", path, loop, stdin=PIPE, stdout=PIPE, cwd=PROJECT
        )
        async with ended(process, within=_PATIENCE):
            assert process.stdout is not None
            async with asyncio.timeout(_PATIENCE):
                assert await process.stdout.readline() == b"ready\n", f"the server {name} did not start"
            yield path, process.pid
