"""This library's server on a unix socket, supervised by nobody."""

from __future__ import annotations

from benchmarks.contract import Kv, Load
from benchmarks.servers.until_eof import run_server, say_ready_and_wait
from supervisor.address import UnixAddress
from supervisor.transport.server import Server


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = Server([Kv(), Load()])
    await server.start(UnixAddress(path))
    await say_ready_and_wait()
    await server.stop()


if __name__ == "__main__":
    run_server(main)
