"""grpclib's server on a unix socket."""

from __future__ import annotations

from grpclib.server import Server

from benchmarks.contract import Kv, Load
from benchmarks.servers.until_eof import run_server, say_ready_and_wait


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = Server([Kv(), Load()])
    await server.start(path=path)
    await say_ready_and_wait()
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    run_server(main)
