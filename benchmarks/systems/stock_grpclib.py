"""grpclib's own channel and server with betterproto's own code, nothing of this library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpclib.client import Channel

from benchmarks.contract import KvStub, LoadStub
from benchmarks.systems.betterproto_calls import BetterprotoCalls
from benchmarks.systems.server_process import serving

__all__ = ["connect"]


@asynccontextmanager
async def connect(_: str, loop: str) -> AsyncIterator[BetterprotoCalls]:
    """Use everything at its defaults; calls have no deadline."""
    async with serving("stock_grpclib", loop) as (path, pid), Channel(path=path) as channel:
        yield BetterprotoCalls(KvStub(channel), LoadStub(channel), (pid,))
