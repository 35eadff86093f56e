"""What the systems serve: `proto.KV` of `protos/kv.proto`, a Get of 100 bytes each way, and streams of `load.proto`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.load_proto import Item, LoadBase, LoadStub, Order, Received

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / "examples" / "kv"))  # betterproto's code for it, committed there

from kv_proto import GetRequest, GetResponse, KvBase, KvStub  # noqa: E402  # after the path to it

__all__ = [
    "KEY", "METADATA", "PROJECT", "TIMEOUT", "VALUE", "GetRequest", "GetResponse", "Item", "Kv", "KvStub", "Load",
    "LoadStub", "Order", "Received",
]  # fmt: skip

KEY = "k" * 100
VALUE = b"v" * 100

TIMEOUT = 5.0
"""Seconds; the deadline of the calls that have one."""

METADATA = ("x-request-id", "x-tenant")
"""The names of the two items of the calls that have metadata; the first one's value is another for each call."""


class Kv(KvBase):
    """One value, in memory: the call is measured and not the store."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=VALUE)


class Load(LoadBase):
    """Streams whose items are made one by one, and whose payloads are read, as by a program that has a use for them."""

    async def down(self, message: Order) -> AsyncIterator[Item]:
        """Send as many as are asked for."""
        payload = bytes(message.size)
        for _ in range(message.count):
            yield Item(payload=payload)

    async def up(self, items: AsyncIterator[Item]) -> Received:
        """Count what comes."""
        count = size = 0
        async for item in items:
            count += 1
            size += len(item.payload)
        return Received(count=count, size=size)
