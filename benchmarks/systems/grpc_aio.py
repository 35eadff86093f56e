"""grpcio's asyncio channel and google.protobuf's messages; the server is grpcio's, or our plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import KEY, METADATA, TIMEOUT
from benchmarks.google_messages import kv, kv_services, load, load_services
from benchmarks.systems.plugin_process import started_plugin
from benchmarks.systems.server_process import serving

__all__ = ["connect"]


class GrpcAio:
    """Stubs on one channel."""

    def __init__(self, channel: Any, server_pids: tuple[int, ...]) -> None:
        self._kv = kv_services.KVStub(channel)
        self._load = load_services.LoadStub(channel)
        self._numbers = count()
        self.server_pids = server_pids

    async def call(self) -> bytes:
        response = await self._kv.Get(kv.GetRequest(key=KEY))
        value: bytes = response.value
        return value

    async def call_dressed(self) -> bytes:
        metadata = ((METADATA[0], str(next(self._numbers))), (METADATA[1], "gold"))
        response = await self._kv.Get(kv.GetRequest(key=KEY), timeout=TIMEOUT, metadata=metadata)
        value: bytes = response.value
        return value

    def download(self, size: int, count: int) -> AsyncIterator[Any]:
        stream: AsyncIterator[Any] = aiter(self._load.Down(load.Order(size=size, count=count)))
        return stream

    def make_item(self, payload: bytes) -> Any:
        return load.Item(payload=payload)

    async def upload(self, items: Iterable[Any]) -> int:
        received: int = (await self._load.Up(items)).size
        return received


@asynccontextmanager
async def connect(name: str, loop: str) -> AsyncIterator[GrpcAio]:
    """Use everything at its defaults; calls have no deadline."""
    server = started_plugin("ours", loop) if name == "grpc_aio_to_ours" else serving("grpc_aio", loop)
    async with server as (path, pid), grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield GrpcAio(channel, (pid,))
