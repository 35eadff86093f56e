"""The streaming plugin of the Go programs, in Python: a method of every shape, errors, a call that hangs."""

import asyncio
from collections.abc import AsyncIterator

from betterproto.lib.google.protobuf import Empty
from grpclib import GRPCError, Status
from interop_proto import CountRequest, Failure, Item, StreamingBase
from interop_serving import serve_as_asked


class Streaming(StreamingBase):
    """One method of each shape."""

    def __init__(self) -> None:
        self._hung = 0

    async def count(self, count_request: CountRequest) -> AsyncIterator[Item]:
        """Send 0, 1, 2 … with a payload of the wanted size each."""
        for number in range(count_request.count):
            yield Item(number=number, payload=bytes(count_request.size))

    async def sum(self, item_iterator: AsyncIterator[Item]) -> Item:
        """Add the numbers and join the payloads."""
        items = [item async for item in item_iterator]
        return Item(number=sum(item.number for item in items), payload=b"".join(item.payload for item in items))

    async def echo(self, item_iterator: AsyncIterator[Item]) -> AsyncIterator[Item]:
        """Send back every item as it comes."""
        async for item in item_iterator:
            yield item

    async def fail(self, failure: Failure) -> Item:
        """Fail as told."""
        raise GRPCError(Status(failure.code), failure.message)

    async def hang(self, item: Item) -> Item:
        """Wait until the caller gives up."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._hung += 1
        return item

    async def hung(self, empty: Empty) -> Item:
        """Say how many calls of `hang` were given up on."""
        return Item(number=self._hung)


serve_as_asked(Streaming())
