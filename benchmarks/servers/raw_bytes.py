"""The raw protocol with bytes as they are on a unix socket."""

from __future__ import annotations

import asyncio

from benchmarks.contract import VALUE
from benchmarks.raw_protocol import RawServer
from benchmarks.servers.until_eof import run_server, say_ready_and_wait


async def answer(data: bytes) -> bytes:  # noqa: ARG001  # every key has this value
    """Answer with the value."""
    return VALUE


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = await asyncio.get_running_loop().create_unix_server(lambda: RawServer(answer), path)
    await say_ready_and_wait()
    server.close()


if __name__ == "__main__":
    run_server(main)
