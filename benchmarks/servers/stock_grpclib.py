"""grpclib's server on the unix socket that is named on the command line."""

from __future__ import annotations

import asyncio
import sys

from grpclib.server import Server

from benchmarks.contract import Kv
from benchmarks.servers.until_eof import say_ready_and_wait


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = Server([Kv()])
    await server.start(path=path)
    await say_ready_and_wait()
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
