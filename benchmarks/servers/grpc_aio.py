"""grpcio's asyncio server on a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import VALUE
from benchmarks.google_messages import kv, kv_services, load, load_services
from benchmarks.servers.until_eof import run_server, say_ready_and_wait


class Kv(kv_services.KVServicer):  # type: ignore[misc]  # generated when it is imported, so without types
    """One value, in memory."""

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  # grpcio's signature
        return kv.GetResponse(value=VALUE)


class Load(load_services.LoadServicer):  # type: ignore[misc]  # as above
    """Streams whose items are made one by one, and whose payloads are read."""

    async def Down(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802  # grpcio's signature
        payload = bytes(request.size)
        for _ in range(request.count):
            yield load.Item(payload=payload)

    async def Up(self, items: AsyncIterator[Any], context: Any) -> Any:  # noqa: ARG002, N802  # grpcio's signature
        count = size = 0
        async for item in items:
            count += 1
            size += len(item.payload)
        return load.Received(count=count, size=size)


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = grpc.aio.server()
    kv_services.add_KVServicer_to_server(Kv(), server)
    load_services.add_LoadServicer_to_server(Load(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await say_ready_and_wait()
    await server.stop(grace=None)


if __name__ == "__main__":
    run_server(main)
