"""grpclib's own channel and server with betterproto's own code, nothing of this library."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from grpclib.client import Channel

from benchmarks.contract import KEY, GetRequest, KvStub
from benchmarks.systems.server_process import serving

__all__ = ["StockGrpclib", "make"]


class StockGrpclib:
    """Everything at its defaults; calls have no deadline."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path, pid = await self._stack.enter_async_context(serving("stock_grpclib"))
        self.server_pids: tuple[int, ...] = (pid,)
        self._stub = KvStub(await self._stack.enter_async_context(Channel(path=path)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def call(self) -> bytes:
        return (await self._stub.get(GetRequest(key=KEY))).value


def make() -> StockGrpclib:
    """Return the system, not yet up."""
    return StockGrpclib()
