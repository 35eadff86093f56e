"""Calls with stubs of betterproto's, whatever channel is below them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import count

from benchmarks.contract import KEY, METADATA, TIMEOUT, GetRequest, Item, KvStub, LoadStub, Order

__all__ = ["BetterprotoCalls"]


class BetterprotoCalls:
    """A pair of stubs on one channel."""

    def __init__(self, kv: KvStub, load: LoadStub, server_pids: tuple[int, ...]) -> None:
        self._kv = kv
        self._load = load
        self._numbers = count()
        self.server_pids = server_pids

    async def call(self) -> bytes:
        return (await self._kv.get(GetRequest(key=KEY))).value

    async def call_dressed(self) -> bytes:
        metadata = {METADATA[0]: str(next(self._numbers)), METADATA[1]: "gold"}
        return (await self._kv.get(GetRequest(key=KEY), timeout=TIMEOUT, metadata=metadata)).value

    def download(self, size: int, count: int) -> AsyncIterator[Item]:
        return self._load.down(Order(size=size, count=count))

    def make_item(self, payload: bytes) -> Item:
        return Item(payload=payload)

    async def upload(self, items: Iterable[Item]) -> int:
        return (await self._load.up(items)).size
