"""This library's channel and server alone, without supervisor, plugin, probes or deadlines."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from benchmarks.contract import KEY, GetRequest, KvStub
from benchmarks.systems.server_process import serving
from supervisor.address import UnixAddress
from supervisor.transport.dial import dial
from supervisor.transport.generated import repair_stub

__all__ = ["Bare", "make"]


class Bare:
    """The default engine at its defaults; calls have no deadline."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path, pid = await self._stack.enter_async_context(serving("bare"))
        self.server_pids: tuple[int, ...] = (pid,)
        channel = await dial(UnixAddress(path), timeout=10)
        self._stack.push_async_callback(channel.wait_closed)
        self._stack.callback(channel.close)
        self._stub = repair_stub(KvStub(channel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def call(self) -> bytes:
        return (await self._stub.get(GetRequest(key=KEY))).value


def make() -> Bare:
    """Return the system, not yet up."""
    return Bare()
