"""A unary call in one step: what `Call` does in six, for stubs that do nothing else with it.

What differs from the usual (listeners, a queue, a large message, an error) goes the long way, by `Call`'s own methods.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from grpclib.const import Cardinality

from supervisor.errors import CallResetError, DeadlineExceededError, TransportError
from supervisor.transport.engine import frames
from supervisor.transport.engine.call import Call, passed_before
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.headers import USUAL_END, USUAL_HEAD, HeaderBlock
from supervisor.transport.engine.metadata import encode_literals, encode_timeout
from supervisor.transport.engine.stream import ENDED, HEAD, PREFIX

if TYPE_CHECKING:
    from grpclib.events import _DispatchChannelEvents

    from supervisor.transport.engine.channel import EngineChannel

__all__ = ["UnaryCall"]

_MOST: Final = frames.SMALLEST_FRAME_SIZE
"""Bytes of a message that are written with those of other calls."""

_MOST_REFUSALS: Final = 20
"""How often a call is made again that the peer refuses."""


class UnaryCall(Call[Any, Any]):
    """A call of which only the reply matters."""

    _expires_at: float | None = None
    _cardinality = Cardinality.UNARY_UNARY
    _dispatch: _DispatchChannelEvents | None = None
    _waiter: asyncio.Future[None] | None = None  # of a call in one step
    _reply: bytes | None = None  # of a response with which all is well
    _refusals = 0  # of the same call, before this

    def __init__(
        self,
        channel: EngineChannel,
        method: str,
        recv_type: type[Any],
        metadata: Any,
    ) -> None:
        # All that `Call` keeps and that has no default, in one place: a call costs little more than this.
        self.wire = wire = channel.wire
        self.connection = connection = wire.connection
        self.messages = []
        self.room = connection.stream_room
        self._channel = channel
        self._method = method
        self._recv_type = recv_type
        self._metadata = metadata

    async def exchange(self, request: Any, timeout: float | None) -> Any:
        """Make the call, within `timeout` seconds, and return its reply; raises what `Call` raises."""
        wire, connection, channel = self.wire, self.connection, self._channel
        if timeout is not None:
            self._expires_at = wire.loop.time() + timeout
        data = channel.encode(request, type(request))
        size = len(data) + PREFIX
        extra = encode_literals(self._metadata) if self._metadata else b""
        if (
            size > connection.peer_frame_size
            or not wire.ready
            or size > connection.send_window
            or size > connection.initial_send_window
            or len(extra) > connection.extra_uncounted
            or wire.queue
            or len(connection.streams) >= wire.most_open
            or channel.__dispatch__._listeners  # noqa: SLF001 - grpclib's
        ):
            return await self._exchange_at_length(request)
        if timeout is not None:
            if timeout <= 0:
                raise passed_before()
            self._slice = wire.deadlines.add(self, self._expires_at)  # type: ignore[arg-type] # there is one, as there is a timeout
            extra = encode_timeout(timeout) + extra
        calls = channel.calls
        calls.add(self)
        try:
            try:
                block = connection.encoder.encode(channel.head_of(self._method))
                stream_id = connection.open(self)
                self._requested = self.sent_end = self.reading = True
                connection.send_window -= size
                head = frames.request_head(stream_id, block + extra if extra else block, size - PREFIX)
                wire.write(head + data) if size <= _MOST else wire.write_message(head, data)  # type: ignore[operator] # pieces are larger
                waiter = self._waiter = wire.loop.create_future()
                await waiter
                if self._reply is None:
                    return await self._read_response()
                return channel.decode(self._reply, self._recv_type)
            finally:
                if self._reply is None:
                    self._leave()
                else:
                    if timeout is not None:
                        self._slice.pop(self, None)
                    calls.discard(self)
                    if not calls or wire.draining or wire.queue:
                        channel.leave(self)
                        wire.release(self)
        except CallResetError as error:
            return await self._repeat(request, error)

    def wake(self) -> None:
        """Let the caller look, when there is no more to come or nothing good."""
        waiter = self._waiter
        over = self.phase == ENDED or self.failure is not None or self.fault is not None
        if over and waiter is not None and not waiter.done():
            waiter.set_result(None)
        super().wake()

    def take_whole(self, headers: HeaderBlock, message: bytes, trailers: HeaderBlock) -> bool:
        """Take the whole response, if there is nothing else to say about it; the call is over then."""
        waiter = self._waiter
        if headers.usual != USUAL_HEAD or trailers.usual != USUAL_END:
            return False
        if self.phase != HEAD or waiter is None:
            return False
        self._reply = message
        self.phase = ENDED
        del self.connection.streams[self.id]
        if not waiter.done():
            waiter.set_result(None)
        return True

    async def _read_response(self) -> Any:
        """Read a response of any kind, once the request was sent."""
        self._sent = self._ended = True
        try:
            reply = await self.recv_message()
            if not self._trailing_read:
                await self.recv_trailing_metadata()
        except TransportError as error:
            if not isinstance(error, DeadlineExceededError):
                self._raise_known_status(error)
            raise
        return reply

    async def _exchange_at_length(self, request: Any) -> Any:
        self._send_type, self._dispatch = type(request), self._channel.listened_dispatch
        try:
            async with self:
                await self.send_message(request, end=True)
                return await self.recv_message()
        except CallResetError as error:
            return await self._repeat(request, error)

    async def _repeat(self, request: Any, error: CallResetError) -> Any:
        """Make a call again that the peer refused, which means that it did not look at it (RFC 9113, section 8.7).

        It is no failure of the peer's: grpcio's server counts a call for a moment longer than its answer takes to arrive.
        """
        if error.code != ErrorCode.REFUSED_STREAM.name or self._refusals == _MOST_REFUSALS:
            raise error
        again = UnaryCall(self._channel, self._method, self._recv_type, self._metadata)
        again._refusals = self._refusals + 1
        at = self._expires_at
        return await again.exchange(request, None if at is None else at - self.wire.loop.time())
