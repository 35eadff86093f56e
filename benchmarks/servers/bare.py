"""This library's server on the unix socket that is named on the command line, supervised by nobody."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.contract import Kv
from benchmarks.servers.until_eof import say_ready_and_wait
from supervisor.address import UnixAddress
from supervisor.transport.server import Server


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = Server([Kv()])
    await server.start(UnixAddress(path))
    await say_ready_and_wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
