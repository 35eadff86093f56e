"""This library's channel and server alone, without supervisor, plugin, probes or deadlines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contract import KvStub, LoadStub
from benchmarks.systems.betterproto_calls import BetterprotoCalls
from benchmarks.systems.server_process import serving
from supervisor.address import UnixAddress
from supervisor.transport.dial import dial
from supervisor.transport.generated import repair_stub

__all__ = ["connect"]


@asynccontextmanager
async def connect(_: str, loop: str) -> AsyncIterator[BetterprotoCalls]:
    """Use the default engine at its defaults; calls have no deadline."""
    async with serving("bare", loop) as (path, pid):
        channel = await dial(UnixAddress(path), timeout=10)
        try:
            yield BetterprotoCalls(repair_stub(KvStub(channel)), repair_stub(LoadStub(channel)), (pid,))
        finally:
            channel.close()
            await channel.wait_closed()
