"""A plugin that does errands with the ids that it is given, and a service that either side can offer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from betterproto.lib.google.protobuf import StringValue, UInt32Value
from grpclib.const import Cardinality, Handler

from supervisor.sdk import ByteReader, ByteWriter, current

__all__ = ["Errands", "Greeter", "GreeterStub", "run_errand"]

_GREET = "/test.Greeter/Greet"
_ERRANDS = "/test.Errands/"


class Greeter:
    """A service: greets by `greet(name)`, by default as `Hello, NAME from PID`."""

    def __init__(self, greet: Callable[[str], Any] | None = None) -> None:
        self._greet = greet or (lambda name: f"Hello, {name} from {os.getpid()}")

    def __mapping__(self) -> dict[str, Handler]:
        """Return the routes."""
        return {_GREET: Handler(self._handle, Cardinality.UNARY_UNARY, StringValue, StringValue)}

    async def _handle(self, stream: Any) -> None:
        name = (await stream.recv_message()).value
        said = self._greet(name)
        await stream.send_message(StringValue(value=said if isinstance(said, str) else await said))


class GreeterStub:
    """Its stub."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    async def greet(self, name: str, **options: Any) -> str:
        """Be greeted."""
        async with self.channel.request(_GREET, Cardinality.UNARY_UNARY, StringValue, StringValue, **options) as stream:
            await stream.send_message(StringValue(value=name), end=True)
            answer = await stream.recv_message()
        return str(answer.value)


class Errands:
    """What a plugin does with an id: a number goes in, a text comes out."""

    def __mapping__(self) -> dict[str, Handler]:
        """Return the routes."""
        errands = {"Host": self._host, "Greet": self._greet, "Lend": self._lend, "Digest": self._digest, "Fill": _fill}
        return {
            _ERRANDS + name: Handler(_handler(errand), Cardinality.UNARY_UNARY, UInt32Value, StringValue)
            for name, errand in errands.items()
        }

    async def _host(self, number: int) -> str:
        greeter = await current().host(GreeterStub)
        return await greeter.greet(str(number))

    async def _greet(self, service_id: int) -> str:
        async with current().dial(service_id, GreeterStub) as greeter:
            return await greeter.greet("plugin")

    async def _lend(self, number: int) -> str:
        return str(await current().offer(Greeter(lambda name: f"{name} {number}")))

    async def _digest(self, service_id: int) -> str:
        digest, size = hashlib.sha256(), 0
        async with current().dial(service_id, ByteReader) as reader:
            async for chunk in reader:
                digest.update(chunk)
                size += len(chunk)
        return f"{size} {digest.hexdigest()}"


async def _fill(service_id: int) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 100_000

    async with current().dial(service_id, ByteWriter) as writer:
        return str(await writer.write(chunks()))


def _handler(errand: Any) -> Any:
    async def handle(stream: Any) -> None:
        request = await stream.recv_message()
        await stream.send_message(StringValue(value=await errand(request.value)))

    return handle


async def run_errand(channel: Any, name: str, number: int = 0, **options: Any) -> str:
    """Have the plugin run an errand and return what it says."""
    async with channel.request(_ERRANDS + name, Cardinality.UNARY_UNARY, UInt32Value, StringValue, **options) as stream:
        await stream.send_message(UInt32Value(value=number), end=True)
        answer = await stream.recv_message()
    return str(answer.value)
