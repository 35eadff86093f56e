"""grpcio's asyncio channel and server with google.protobuf's messages, nothing of this library."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import KEY
from benchmarks.google_kv import messages, services
from benchmarks.systems.server_process import serving

__all__ = ["GrpcAio", "make"]


class GrpcAio:
    """Everything at its defaults; calls have no deadline."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path, pid = await self._stack.enter_async_context(serving("grpc_aio"))
        self.server_pids: tuple[int, ...] = (pid,)
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{path}"))
        self._stub = services.KVStub(channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def call(self) -> bytes:
        response = await self._stub.Get(messages.GetRequest(key=KEY))
        value: bytes = response.value
        return value


def make() -> GrpcAio:
    """Return the system, not yet up."""
    return GrpcAio()
