"""A call's request: its headers, after the calls that queued before it, and its messages."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from grpclib.const import Cardinality
from grpclib.metadata import _Metadata

from supervisor.errors import (
    CallResetError,
    ConnectionLostError,
    ProtocolViolationError,
)
from supervisor.transport.codec import Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.compression import ENCODING_LITERAL, pack
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.metadata import encode_literals, encode_timeout
from supervisor.transport.engine.stream import ENDED, MakeError
from supervisor.transport.engine.timers import Slice
from supervisor.transport.engine.waiting import WaitingStream

if TYPE_CHECKING:
    from supervisor.transport.engine.calling import ClientProtocol
    from supervisor.transport.engine.channel import EngineChannel
    from supervisor.transport.engine.roles import ClientConnection

__all__ = ["RecvT", "RequestSide", "SendT"]

SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")


class RequestSide(WaitingStream, Generic[SendT, RecvT]):
    """The half of a call that sends; `Call` is the rest."""

    wire: ClientProtocol
    connection: ClientConnection

    _compress = False
    _slice: Slice
    _sender: asyncio.Task[Any] | None = None
    _requested = False  # the headers were written
    _refused = False  # the peer said that it did not look at the call
    _sent = False  # a message was
    _ended = False  # the request's end was said, or is of no use any more
    _head_read = False  # the response's headers were looked at
    _trailing_read = False  # its status was
    _received = 0
    _cancelled = False
    _told = False  # an error was raised that no call survives: one who handled it is not told again
    _encoding = b"identity"
    _initial: _Metadata | None = None
    _trailing: _Metadata | None = None

    def __init__(
        self,
        channel: EngineChannel,
        method: str,
        cardinality: Cardinality,
        send_type: type[SendT],
        recv_type: type[RecvT],
        *,
        expires_at: float | None,
        metadata: Any,
        compress: bool = False,
    ) -> None:
        WaitingStream.__init__(self, channel.wire, many=cardinality.server_streaming)
        self._channel = channel
        self._method = method
        self._cardinality = cardinality
        self._send_type = send_type
        self._recv_type = recv_type
        self._expires_at = expires_at
        self._metadata = metadata
        self._compress = compress
        self._dispatch = channel.listened_dispatch

    @property
    def maybe_executed(self) -> bool:
        """Whether the request may have reached the peer: False until its headers were written."""
        return self._requested and not self._refused

    async def send_request(self, *, end: bool = False) -> None:
        """Send the request's headers, after the calls that queued before this one."""
        if self._requested:
            raise ProtocolViolationError("the request was sent already")
        if end and not self._cardinality.client_streaming:
            raise ProtocolViolationError("a unary request cannot end before its message")
        self.wire.write(await self._open(end=end))

    async def _open(self, *, end: bool) -> bytes:
        """Wait for this call's turn, and return its headers, which are to be sent before anything else is done."""
        metadata = self._metadata
        if self._dispatch is not None:
            metadata = await self._channel.tell_request(self._method, metadata, self._expires_at)
        extra = encode_literals(metadata) if metadata else b""
        wire = self.wire
        if wire.must_queue():
            await wire.wait_turn(self)
        if self.failure is not None:
            self.check()
        if self._compress:
            extra += ENCODING_LITERAL
        self._ended = self.sent_end = end
        block = self._open_block(extra)
        return frames.header_frames(self.id, block, end=end, frame_size=self.connection.peer_frame_size)

    def _open_block(self, extra: bytes) -> bytes:
        """Open the stream; return its header block."""
        connection = self.connection
        if self._expires_at is not None:
            extra = encode_timeout(self._expires_at - self.wire.loop.time()) + extra
        head = self._channel.head_of(self._method)
        connection.check_header_list(head.fields, extra)
        block = connection.encoder.encode(head)
        connection.open(self)
        self._requested = True
        return block + extra if extra else block

    async def send_message(self, message: SendT, *, end: bool = False) -> None:
        """Send a message; dropped when the peer has already answered OK.

        Raises:
            GRPCError: the peer has already answered with another status.
            MessageTooLargeError: the message is over the limit; nothing of it was sent.
        """
        cardinality = self._cardinality
        if not cardinality.client_streaming:
            if self._sent:
                raise ProtocolViolationError("the request has ended already")
            end = True
        elif self._ended:
            raise ProtocolViolationError("the request has ended already")
        elif cardinality.server_streaming and self._sender is None:
            self._watch_stub_sender()
        if self.failure is not None and (self.abrupt or self.phase != ENDED):
            self.check()
        if self._dispatch is not None:
            if not self._requested:
                await self.send_request()  # its listeners are told first
            (message,) = await self._dispatch.send_message(message)
        data = self._channel.encode(message, self._send_type)
        head = b"" if self._requested else await self._open(end=False)
        if self.phase == ENDED:
            await self._drop_message()
        else:
            await self._send(head, data, end=end)
        self._sent = True
        self._ended = end

    async def _send(self, head: bytes, data: bytes | Pieces, *, end: bool) -> None:
        compressed = 0
        if self._compress and data:
            data, compressed = pack(bytes(data)), 1
        if not self.send_now(head, data, compressed=compressed, end=end):
            await self.wire.send_data(self, head, data, compressed=compressed, end=end)
        if end:
            self.sent_end = True
        elif self.turn_is_over():
            await asyncio.sleep(0)

    async def _drop_message(self) -> None:
        self._raise_status()
        await asyncio.sleep(0)  # a sender that never ends must not keep the loop to itself
        if self.abrupt:
            self.check()

    def over(self) -> bool:
        """Whether the whole response is here: what is still to be sent is of no use."""
        return self.phase == ENDED

    def _watch_stub_sender(self) -> None:
        """Take responsibility for the task in which betterproto's bidirectional stub sends its requests.

        The stub neither ends it when the server finishes first nor notices when the caller's iterator raises.
        """
        task = asyncio.current_task()
        if task is not None and getattr(task.get_coro(), "__name__", "") == "_send_messages":
            self._sender = task
            task.add_done_callback(self._stub_sender_done)

    def _stub_sender_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and isinstance(error, Exception):
            self.fail(error)

    async def end(self) -> None:
        """End the request."""
        if not self._requested:
            raise ProtocolViolationError("the request was not sent")
        if self._ended:
            raise ProtocolViolationError("the request has ended already")
        if self._cardinality.client_streaming:
            if self.abrupt:
                self.check()
            if not self.wire.writable:
                await self.wire.wait_to_send(self)
            if not self.over() and not self.closed:
                self.sent_end = True
                self.wire.write(frames.frame(frames.DATA, frames.END_STREAM, self.id))
        elif not self._sent:
            raise ProtocolViolationError("a unary request cannot end before its message")
        self._ended = True

    async def cancel(self) -> None:
        """Tell the peer that nobody waits any more."""
        if not self._requested:
            raise ProtocolViolationError("the request was not sent")
        if self._cancelled:
            raise ProtocolViolationError("the call was cancelled already")
        self.connection.reset(self, ErrorCode.CANCEL)
        self._cancelled = True
        self.end_with(lambda: ProtocolViolationError("the call was cancelled"))

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            self._told = True
            raise self.failure()

    def fail(self, error: Exception) -> None:
        """End the call: whoever waits for its response gets `error`. For the task that sends its requests."""
        self.end_with(lambda: error, abrupt=True)

    def lose(self, make_error: MakeError, *, abrupt: bool) -> None:
        """End because the connection has ended; a complete response is one all the same."""
        if self.phase == ENDED and not abrupt:
            self.closed = True
            self.wake()  # what ended the connection may have come right behind the response, before anybody was told
            return
        if not self._requested:
            make_error = partial(_not_executed, make_error)
        self._refused = not getattr(make_error(), "maybe_executed", True)
        super().lose(make_error, abrupt=abrupt)

    def _raise_status(self) -> None:
        """Raise when the response has ended and its status is not OK."""
        raise NotImplementedError


def _not_executed(make_error: MakeError) -> Exception:
    error = make_error()
    if isinstance(error, (ConnectionLostError, CallResetError)):
        error.maybe_executed = False
    return error
