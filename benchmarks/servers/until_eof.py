"""How a server that nobody supervises begins, and how it knows that its client is gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.event_loops import run_on

__all__ = ["run_server", "say_ready_and_wait"]


def run_server(main: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on the unix socket and the event loop that the command line names."""
    path, loop = sys.argv[1:]
    run_on(loop, main(path))


async def say_ready_and_wait() -> None:
    """Tell the client on stdout that it may connect, then wait until standard input ends, which it does with the client."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    await reader.read()
