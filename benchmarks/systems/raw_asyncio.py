"""asyncio and this library's codec, and nothing of gRPC: the limit of what an engine can reach."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from benchmarks.contract import KEY, GetRequest, GetResponse
from benchmarks.raw_protocol import RawClient
from benchmarks.systems.server_process import serving
from supervisor.transport.codec import MessageCodec

__all__ = ["RawAsyncio", "make"]


class RawAsyncio:
    """A task per call on the server, as gRPC's semantics ask for."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._codec = MessageCodec()

    async def __aenter__(self) -> Self:
        path, pid = await self._stack.enter_async_context(serving("raw_asyncio"))
        self.server_pids: tuple[int, ...] = (pid,)
        _, self._client = await asyncio.get_running_loop().create_unix_connection(RawClient, path)
        self._stack.callback(self._client.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def call(self) -> bytes:
        reply = await self._client.call(self._codec.encode(GetRequest(key=KEY), GetRequest))
        response: GetResponse = self._codec.decode(reply, GetResponse)
        return response.value


def make() -> RawAsyncio:
    """Return the system, not yet up."""
    return RawAsyncio()
