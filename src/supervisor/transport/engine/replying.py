"""A served call's response: its headers, its messages and its status, in as few writes as they allow."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from grpclib.const import Handler as Method
from grpclib.const import Status

from supervisor.errors import EncodeError, MessageTooLargeError, ProtocolViolationError, SupervisorError
from supervisor.transport.codec import Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.compression import ENCODING_LITERAL, GZIP, pack
from supervisor.transport.engine.faults import ErrorCode, MetadataTooLargeError
from supervisor.transport.engine.headers import literal
from supervisor.transport.engine.metadata import encode_literals
from supervisor.transport.engine.request import RequestHead
from supervisor.transport.engine.stream import BODY, PREFIX, too_large
from supervisor.transport.engine.timers import Slice
from supervisor.transport.engine.waiting import WaitingStream
from supervisor.transport.refused_size import refusal_of

if TYPE_CHECKING:
    from grpclib.events import _DispatchServerEvents
    from grpclib.metadata import Deadline, _Metadata

    from supervisor.transport.engine.answering import ServerProtocol
    from supervisor.transport.engine.headers import HeaderBlock
    from supervisor.transport.engine.roles import ServerConnection
    from supervisor.transport.under_way import CallUnderWay

__all__ = ["ReplySide"]

_SMALL_REPLY: Final = frames.SMALLEST_FRAME_SIZE
"""Bytes of a reply that overtakes a socket that is full: it ends its call, which frees more than it takes."""

_SHORT_TEXT: Final = 200
"""Characters of a status's message that every caller takes."""


class ReplySide(WaitingStream):
    """The half of a served call that sends; `ServedCall` is the rest.

    Attributes:
        request: what its headers say.
        siblings: the calls among which it is counted.
        task: what runs its handler; None until the request has come far enough.
    """

    wire: ServerProtocol
    connection: ServerConnection

    phase = BODY
    room = 0
    task: asyncio.Task[None] | None = None
    started = False
    _dispatch: _DispatchServerEvents | None = None
    _metadata: _Metadata | None = None
    _deadline: Deadline | None = None
    _expires_at: float | None = None
    _slice: Slice
    _expired = False
    _begun = False
    _cancelled = False
    _head_sent = False
    _trailers_sent = False
    _messages_sent = 0
    _held: bytes | Pieces | None = None  # a unary reply, until its status goes with it
    _compress = 0

    def __init__(
        self,
        wire: ServerProtocol,
        stream_id: int,
        request: RequestHead,
        headers: HeaderBlock,
        siblings: set[CallUnderWay],
    ) -> None:
        self.wire = wire
        self.connection = connection = wire.connection
        self.id = stream_id
        self.request = request
        self.headers = headers
        self.siblings = siblings
        self.messages = deque() if request.streams else []
        self.send_window = connection.initial_send_window
        if wire.listeners:
            self._dispatch = wire.service.dispatch

    @property
    def method(self) -> Method:
        """What serves it."""
        found: Method = self.request.method
        return found

    async def send_initial_metadata(self, *, metadata: Any = None) -> None:
        """Send the response's headers; implied by what is sent after them."""
        if self._head_sent:
            raise ProtocolViolationError("the headers were sent already")
        extra = await self._initial_literals(metadata)
        if not self.wire.writable:
            await self.wire.wait_to_send(self)
        self.wire.write(self._head(extra))

    async def _initial_literals(self, metadata: Any) -> bytes:
        if self._dispatch is not None:
            from multidict import MultiDict  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

            (metadata,) = await self._dispatch.send_initial_metadata(MultiDict(metadata or ()))
        extra = encode_literals(metadata) if metadata else b""
        self.connection.check_header_list(self.wire.head.fields, extra)
        return extra

    def _head(self, extra: bytes = b"") -> bytes:
        """Return the response's headers, to be sent at once."""
        self._head_sent = True
        connection = self.connection
        block = connection.encoder.encode(self.wire.head) + extra
        if self._compress:
            block += ENCODING_LITERAL
        return frames.header_frames(self.id, block, end=False, frame_size=connection.peer_frame_size)

    def compress(self) -> None:
        """Send the messages of this call gzipped, from the headers on; of no effect where the caller takes none.

        Raises:
            ProtocolViolationError: the headers were sent already.
        """
        if self._head_sent:
            raise ProtocolViolationError("the headers were sent already")
        self._compress = int(GZIP in self.request.accepted)

    async def send_message(self, message: Any) -> None:
        """Send a response message, after the headers if they were not sent.

        A unary reply goes out with the status, when the handler has ended.

        Raises:
            GRPCError: the message is over the limit.
        """
        streaming = self.method.cardinality.server_streaming
        if self._messages_sent and not streaming:
            raise ProtocolViolationError("a unary call was answered twice")
        if self._dispatch is not None:
            (message,) = await self._dispatch.send_message(message)
        data = self._encode(message)
        self._messages_sent += 1
        if not streaming:
            self._held = data
            return
        await self._send_next(data)

    def _encode(self, message: Any) -> bytes | Pieces:
        service, message_type = self.wire.service, self.request.method.reply_type
        try:
            data: bytes | Pieces = self.wire.encode(message, message_type)
        except MessageTooLargeError as error:
            raise refusal_of(error) from error
        except SupervisorError:
            raise
        except Exception as error:
            raise EncodeError(f"a {message_type.__name__} cannot be encoded: {error}") from error
        if len(data) > service.message_size:
            raise refusal_of(too_large(len(data), service.message_size))
        return data

    async def _send_next(self, data: bytes | Pieces) -> None:
        """Send a message of a streaming response."""
        if self.failure is not None:
            self.check()
        if self._trailers_sent or self.closed:
            raise ProtocolViolationError("the call was answered, or cancelled, already")
        head = b""
        if not self._head_sent:
            head = self._head(await self._initial_literals(None))
        compressed = self._compress if data else 0
        if compressed:
            data = pack(bytes(data))
        if not self.send_now(head, data, compressed=compressed):
            await self.wire.send_data(self, head, data, compressed=compressed, end=False)
        if self.turn_is_over():
            await asyncio.sleep(0)

    async def send_trailing_metadata(
        self,
        *,
        status: Status = Status.OK,
        status_message: str | None = None,
        status_details: Any = None,
        metadata: Any = None,
    ) -> None:
        """Send the status, which ends the response; implied by the handler's end."""
        if self._trailers_sent:
            raise ProtocolViolationError("the status was sent already")
        if status is Status.OK and not self.method.cardinality.server_streaming and not self._messages_sent:
            raise ProtocolViolationError("the handler of a unary response sent none")
        if self._dispatch is not None:
            from multidict import MultiDict  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

            (metadata,) = await self._dispatch.send_trailing_metadata(
                MultiDict(metadata or ()),
                status=status, status_message=status_message, status_details=status_details,
            )  # fmt: skip
        extra = b""
        if status is not Status.OK:
            extra = self._status_literals(status, status_message, status_details)
        if metadata:
            extra += encode_literals(metadata)
        extra = self._fitting(extra, status, status_message)
        held, self._held = self._held, None
        if held is not None and status is Status.OK:
            await self._send_reply(held, extra)
        else:
            self.send_trailers(extra, ok=status is Status.OK)

    def _fitting(self, extra: bytes, status: Status, message: str | None) -> bytes:
        """Return `extra`; of a status that is more than the caller takes what matters most.

        Raises:
            MetadataTooLargeError: the status is OK, and what goes with it matters.
        """
        try:
            self.connection.check_header_list(self.wire.head.fields, extra)
        except MetadataTooLargeError:
            if status is Status.OK:
                raise
            return self._status_literals(status, message and message[:_SHORT_TEXT], None)
        return extra

    def _status_literals(self, status: Status, message: str | None, details: Any) -> bytes:
        extra = literal(b"grpc-status", b"%d" % status.value)
        if message is not None:
            from grpclib.metadata import encode_grpc_message  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

            extra += literal(b"grpc-message", encode_grpc_message(message).encode("ascii"))
        if details is not None:
            from grpclib.metadata import encode_bin_value  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

            packed = self.wire.service.details_codec.encode(status, message, details)
            extra += literal(b"grpc-status-details-bin", encode_bin_value(packed))
        return extra

    async def _send_reply(self, data: bytes | Pieces, extra: bytes) -> None:
        """Send a unary reply with all that goes around it, in one write where possible."""
        wire, connection = self.wire, self.connection
        if not extra and self._dispatch is None and self._send_whole(data):
            return
        head = b"" if self._head_sent else self._head(await self._initial_literals(None))
        compressed = self._compress if data else 0
        if compressed:
            data = pack(bytes(data))
        size = len(data) + PREFIX
        if (
            size <= _SMALL_REPLY
            and size <= connection.send_window
            and size <= self.send_window
            and (wire.writable or wire.check_backlog())
        ):
            connection.send_window -= size
            self.send_window -= size
            head += frames.message_head(self.id, len(data), compressed=compressed)
            wire.write(head + bytes(data) + self._trailers(extra, ok=True))
            return
        if not self.send_now(head, data, compressed=compressed):
            await wire.send_data(self, head, data, compressed=compressed, end=False)
        if not self.closed:
            wire.write(self._trailers(extra, ok=True))

    def _send_whole(self, data: bytes | Pieces) -> bool:
        """Send a unary reply with its status in one write, if it is as nearly every reply is; return whether it was."""
        wire, connection = self.wire, self.connection
        size = len(data) + PREFIX
        if (
            size > connection.send_window
            or size > self.send_window
            or self._head_sent
            or self.closed
            or self._compress
            or not (wire.writable or (size <= _SMALL_REPLY and wire.check_backlog()))
            or size > connection.peer_frame_size
        ):
            return False
        encoder = connection.encoder
        connection.send_window -= size
        self._head_sent = self._trailers_sent = self.sent_end = True
        block, ok = encoder.encode(wire.head), encoder.encode(wire.ok)
        head, end = frames.reply_head(self.id, block, size - PREFIX), frames.reply_end(self.id, ok)
        if size <= _SMALL_REPLY:
            wire.write(head + data + end)  # type: ignore[operator] # pieces are larger
        else:
            wire.write_message(head, data, end)
        return True

    def send_trailers(self, extra: bytes, *, ok: bool) -> None:
        """Send the status, whether or not the peer reads; with the headers, if they were not sent."""
        if not self.closed:
            self.wire.write(self._trailers(extra, ok=ok))

    def _trailers(self, extra: bytes, *, ok: bool) -> bytes:
        self._trailers_sent = self.sent_end = True
        connection = self.connection
        wire = self.wire
        with_head, alone = (wire.head_only, wire.ok) if ok else (wire.head, wire.nothing)
        repeated = alone if self._head_sent else with_head
        self._head_sent = True
        block = connection.encoder.encode(repeated) + extra
        return frames.header_frames(self.id, block, end=True, frame_size=connection.peer_frame_size)

    async def cancel(self) -> None:
        """Tell the client that there is nothing more to expect."""
        if self._cancelled:
            raise ProtocolViolationError("the call was cancelled already")
        self._cancelled = True
        self.connection.reset(self, ErrorCode.CANCEL)

    def refuse(self, status: Status, message: str) -> None:
        """Answer with a status, without waiting for the peer to read, and end the call both ways."""
        if not self._trailers_sent:
            self.send_trailers(self._status_literals(status, message, None), ok=False)
        self.connection.reset(self, ErrorCode.NO_ERROR)
        self.wire.release(self)
