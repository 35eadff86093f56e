"""grpcio's asyncio server on the unix socket that is named on the command line."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import VALUE
from benchmarks.google_kv import messages, services
from benchmarks.servers.until_eof import say_ready_and_wait


class Kv(services.KVServicer):  # type: ignore[misc]  # generated when it is imported, so without types
    """One value, in memory."""

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  # grpcio's signature
        return messages.GetResponse(value=VALUE)


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = grpc.aio.server()
    services.add_KVServicer_to_server(Kv(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await say_ready_and_wait()
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
