"""How a server that nobody supervises knows that its client is gone."""

from __future__ import annotations

import asyncio
import sys

__all__ = ["say_ready_and_wait"]


async def say_ready_and_wait() -> None:
    """Tell the client on stdout that it may connect, then wait until standard input ends, which it does with the client."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    await reader.read()
