"""asyncio and nothing of gRPC, with this library's codec or without: the limit of what an engine can reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contract import KEY, GetRequest, GetResponse
from benchmarks.raw_protocol import RawClient
from benchmarks.systems.server_process import serving
from supervisor.transport.codec import MessageCodec

__all__ = ["connect"]


class RawAsyncio:
    """A task per call on the server, as gRPC's semantics ask for."""

    def __init__(self, client: RawClient, server_pids: tuple[int, ...]) -> None:
        self._client = client
        self._codec = MessageCodec()
        self.server_pids = server_pids

    async def call(self) -> bytes:
        reply = await self._client.call(self._codec.encode(GetRequest(key=KEY), GetRequest))
        response: GetResponse = self._codec.decode(reply, GetResponse)
        return response.value


class RawBytes:
    """The same with bytes made once."""

    def __init__(self, client: RawClient, server_pids: tuple[int, ...]) -> None:
        self._client = client
        self._key = KEY.encode()
        self.server_pids = server_pids

    async def call(self) -> bytes:
        return await self._client.call(self._key)


@asynccontextmanager
async def connect(name: str, loop: str) -> AsyncIterator[RawAsyncio | RawBytes]:
    """Connect one client to one server."""
    async with serving(name, loop) as (path, pid):
        _, client = await asyncio.get_running_loop().create_unix_connection(RawClient, path)
        try:
            yield (RawBytes if name == "raw_bytes" else RawAsyncio)(client, (pid,))
        finally:
            client.close()
