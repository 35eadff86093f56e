"""The least that a call can be with asyncio: a length, an id and a message, many at a time on one socket.

No HTTP/2, no statuses, no limits: what it takes is the price of asyncio, of a task per call and of the codec.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

__all__ = ["RawClient", "RawServer"]

_HEAD = struct.Struct(">II")


class _Framed(asyncio.Protocol):
    """Cuts what arrives into messages, and joins what is sent in one turn of the loop, eight at a time."""

    def __init__(self) -> None:
        self._left = b""
        self._out: list[bytes] = []
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        cast("Any", transport).max_size = 131_072

    def data_received(self, data: bytes) -> None:
        if self._left:
            data = self._left + data
        at, size = 0, len(data)
        while size - at >= 8:
            length, number = _HEAD.unpack_from(data, at)
            end = at + 8 + length
            if end > size:
                break
            self.message_received(number, data[at + 8 : end])
            at = end
        self._left = data[at:]

    def message_received(self, number: int, data: bytes) -> None:
        raise NotImplementedError

    def send(self, number: int, data: bytes) -> None:
        """Send a message."""
        self._out.append(_HEAD.pack(len(data), number) + data)
        if len(self._out) >= 8:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._scheduled = False
        if self._out:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.write(b"".join(out))


class RawClient(_Framed):
    """Calls, and knows the answers by their ids."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0

    def message_received(self, number: int, data: bytes) -> None:
        self._waiting.pop(number).set_result(data)

    async def call(self, data: bytes) -> bytes:
        """Return the answer to a request."""
        self._last = number = self._last + 1 & 0xFFFFFFFF
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = waiter
        self.send(number, data)
        return await waiter

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class RawServer(_Framed):
    """Answers, each call in a task of its own."""

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        super().__init__()
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def message_received(self, number: int, data: bytes) -> None:
        task = self._loop.create_task(self._serve(number, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, data: bytes) -> None:
        self.send(number, await self._answer(data))
