"""A unary call in one step: what `Call` does in six, for stubs that do nothing else with it.

What differs from the usual (listeners, a queue, a large message, an error) goes the long way, by `Call`'s own methods.
"""

from __future__ import annotations

from typing import Any

from supervisor.errors import DeadlineExceededError, TransportError
from supervisor.transport.engine import frames
from supervisor.transport.engine.call import Call
from supervisor.transport.engine.metadata import encode_literals
from supervisor.transport.engine.response import ResponseEnd, ResponseHead
from supervisor.transport.engine.stream import ENDED, PREFIX

__all__ = ["UnaryCall"]

_JOINED = 16_384
"""Bytes of a message that is copied, so that it goes out in one write with its headers."""


class UnaryCall(Call[Any, Any]):
    """A call of which only the reply matters."""

    __slots__ = ()

    async def exchange(self, request: Any) -> Any:
        """Make the call and return its reply; raises what `Call` raises."""
        wire, connection, expires_at = self.wire, self.connection, self._expires_at
        data = self._encode(request)
        size = len(data) + PREFIX
        if (
            wire.must_queue()
            or self._dispatch is not None
            or size > connection.send_window
            or size > connection.initial_send_window
            or size > connection.peer_frame_size
        ):
            return await self._exchange_at_length(request)
        extra = encode_literals(self._metadata) if self._metadata else b""
        if expires_at is not None:
            if expires_at <= wire.loop.time():
                raise DeadlineExceededError("the call's deadline passed before it began")
            self._slice = wire.deadlines.add(self, expires_at)
        self._channel.calls.add(self)
        try:
            block = self._open_block(extra)
            self._ended = self.sent_end = self.reading = True
            connection.send_window -= size
            if size > _JOINED or len(block) > connection.peer_frame_size:
                head = frames.header_frames(self.id, block, end=False, frame_size=connection.peer_frame_size)
                wire.write_message(head + frames.message_head(self.id, len(data), end=True), data)
            else:
                wire.write(frames.request_frames(self.id, block, data))
            while self.phase != ENDED and self.failure is None:
                waiter = wire.loop.create_future()
                self._waiters.append(waiter)
                await waiter
            reply = self._plain_reply()
            return await self._read_reply() if reply is None else self._decode(reply)
        finally:
            self._leave()

    def _plain_reply(self) -> bytes | None:
        """Return the one message of a response that is OK and about which there is nothing to say."""
        headers, trailers, messages = self.headers, self.trailers, self.messages
        if headers is None or trailers is None or self.abrupt or len(messages) != 1:
            return None
        head, end = headers.view, trailers.view  # made by the long way, when such a block is first seen
        if type(head) is not ResponseHead or head.problem is not None or type(end) is not ResponseEnd or not end.ok:
            return None
        self._encoding = head.encoding
        return None if self._parts is not None or self.fault is not None else messages[0]

    async def _read_reply(self) -> Any:
        """Read a response of any kind, once the request was sent."""
        self._sent = True
        try:
            reply = await self.recv_message()
            if not self._trailing_read:
                await self.recv_trailing_metadata()
        except TransportError as error:
            if not isinstance(error, DeadlineExceededError):
                self._raise_known_status(error)
            raise
        else:
            return reply

    async def _exchange_at_length(self, request: Any) -> Any:
        async with self:
            await self.send_message(request, end=True)
            return await self.recv_message()
