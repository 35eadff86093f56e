"""One HTTP/2 stream, both sides: grpclib's, with every wait bounded by the life of its call and its connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from grpclib.metadata import decode_bin_value
from grpclib.protocol import Connection, Stream
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, NoAvailableStreamIDError, StreamClosedError

from supervisor.errors import ConnectionLostError, ProtocolViolationError
from supervisor.transport.http2 import PatientH2Connection
from supervisor.transport.scope import CallScope

if TYPE_CHECKING:
    from supervisor.transport.connection import WireConnection

__all__ = ["Headers", "WireStream"]

Headers = list[tuple[str, str]]


class _ReleaseStream(Protocol):
    def __call__(self) -> None: ...


class WireStream(Stream):
    """One HTTP/2 stream. All of its waits go through its `CallScope`."""

    connection: WireConnection
    wrapper: CallScope

    def __init__(
        self,
        connection: WireConnection,
        h2_connection: PatientH2Connection,
        transport: asyncio.Transport,
        *,
        scope: CallScope,
        stream_id: int | None = None,
    ) -> None:
        self._inbox: deque[tuple[memoryview, int]] = deque()
        self.ended = False  # the peer has sent END_STREAM
        self.headers_sent = False  # this side's HEADERS were written: the peer may know of the call
        self.finished = False  # this side has sent its trailers
        self.refused = False  # the peer said that it did not look at the call
        super().__init__(connection, h2_connection, transport, stream_id=stream_id, wrapper=scope)

    def init_stream(self, stream_id: int, connection: Connection) -> None:
        """Take an id; grpclib's buffer is not used."""
        self.id = stream_id
        connection.streams_started += 1

    @property
    def maybe_executed(self) -> bool:
        """Whether the peer may have seen the request."""
        return self.headers_sent and not self.refused

    @property
    def answered(self) -> bool:
        """Whether a client's stream has its whole response: what is still to be sent is of no use."""
        return self.ended and self.connection.client_side

    async def recv_headers(self) -> Headers:
        """Wait for the response headers."""
        await self.wrapper.wait_until(lambda: self.headers is not None or self.ended)
        if self.headers is None:
            raise ProtocolViolationError("the response ended without headers")
        _check_binary(self.headers)
        return self.headers

    async def recv_trailers(self) -> Headers:
        """Wait for the trailers."""
        await self.wrapper.wait_until(lambda: self.trailers is not None or self.ended)
        if self.trailers is None:
            raise ProtocolViolationError("the response ended without a status")
        _check_binary(self.trailers)
        return self.trailers

    async def recv_data(self, size: int) -> bytes:
        """Wait for `size` bytes; return `b""` at the end of the stream.

        Raises:
            ProtocolViolationError: the stream ended within them.
        """
        parts: list[memoryview] = []
        missing = size
        while missing:
            await self.wrapper.wait_until(lambda: bool(self._inbox) or self.ended)
            if not self._inbox:
                break
            data, to_acknowledge = self._inbox.popleft()
            if len(data) > missing:
                self._inbox.appendleft((data[missing:], 0))
                data = data[:missing]
            parts.append(data)
            missing -= len(data)
            self.connection.ack(cast("int", self.id), to_acknowledge)
        if parts and missing:
            raise ProtocolViolationError(f"the stream ended {missing} bytes before its message did")
        return b"".join(parts)

    async def discard_data(self) -> bool:
        """Read and drop what is left; return whether there was anything."""
        found = False
        while True:
            await self.wrapper.wait_until(lambda: bool(self._inbox) or self.ended)
            if not self._inbox:
                return found
            data, to_acknowledge = self._inbox.popleft()
            found = found or bool(data)
            self.connection.ack(cast("int", self.id), to_acknowledge)

    async def send_request(self, headers: Headers, end_stream: bool = False, *, _processor: Any) -> _ReleaseStream:
        """Open the stream as soon as it is this call's turn."""
        await self.connection.wait_turn(self)
        h2 = self._h2_connection
        try:
            stream_id = h2.get_next_available_stream_id()
        except NoAvailableStreamIDError:
            raise ConnectionLostError(
                "the connection has used up its stream ids", maybe_executed=False, hint="open a new one"
            ) from None
        h2.send_headers(stream_id, headers, end_stream=end_stream)
        self.init_stream(stream_id, self.connection)
        release: _ReleaseStream = _processor.register(self)
        self.headers_sent = True
        self.connection.flush()
        self.connection.headers_send_process()
        return release

    async def send_headers(self, headers: Headers, end_stream: bool = False) -> None:
        """Send response headers or trailers."""
        await self._wait_to_write(lambda: self.connection.writable)
        self.send_headers_nowait(headers, end_stream=end_stream)

    def send_headers_nowait(self, headers: Headers, *, end_stream: bool) -> None:
        """Send headers, whether or not the peer reads.

        Raises:
            StreamClosedError: the stream has ended; h2 would take its id for a new one's.
        """
        if not self.closable:
            raise StreamClosedError(cast("int", self.id))
        self.headers_sent = True
        self.finished = self.finished or end_stream
        self._h2_connection.send_headers(cast("int", self.id), headers, end_stream=end_stream)
        self.connection.flush()
        self.connection.headers_send_process()

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send a message as the peer's windows allow; what a complete response made useless is dropped."""
        view, h2, stream_id = memoryview(data), self._h2_connection, cast("int", self.id)
        while True:
            await self._wait_to_write(self._may_send_data)
            if self.answered:
                return
            size = min(h2.local_flow_control_window(stream_id), h2.max_outbound_frame_size)
            chunk, view = view[:size], view[size:]
            last = not view
            h2.send_data(stream_id, bytes(chunk), end_stream=end_stream and last)
            self.connection.flush()
            self.connection.data_send_process()
            if last:
                return

    async def end(self) -> None:
        """Half-close the stream."""
        await self._wait_to_write(lambda: self.connection.writable or self.answered)
        if not self.answered:
            self._h2_connection.end_stream(cast("int", self.id))
            self.connection.flush()

    async def reset(self, error_code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End the stream both ways."""
        self.reset_nowait(error_code)

    def reset_nowait(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """End the stream both ways; never waits, since a reset is a few bytes and must not depend on the peer."""
        with contextlib.suppress(H2Error):
            self._h2_connection.reset_stream(cast("int", self.id), error_code=error_code)
        self.connection.flush()

    def push(self, data: bytes, flow_controlled: int) -> None:
        """Take received bytes; they are acknowledged when they are read."""
        self._inbox.append((memoryview(data), flow_controlled))
        self.wrapper.wake()

    def unread(self) -> int:
        """Take out what was not read; return how many bytes are to be acknowledged."""
        size = sum(flow for _, flow in self._inbox)
        self._inbox.clear()
        return size

    def __ended__(self) -> None:
        self.ended = True
        self.wrapper.wake()

    def lose(self, reason: str, *, abrupt: bool, violation: bool = False) -> None:
        """End the stream's waits because the connection ended."""
        if violation:
            self.wrapper.fail(lambda: ProtocolViolationError(reason), abrupt=abrupt)
        else:
            self.wrapper.fail(lambda: ConnectionLostError(reason, maybe_executed=self.maybe_executed), abrupt=abrupt)

    def _may_send_data(self) -> bool:
        if self.answered:
            return True
        return self.connection.writable and self._h2_connection.local_flow_control_window(cast("int", self.id)) > 0

    async def _wait_to_write(self, ready: Callable[[], bool]) -> None:
        if self.answered:
            return
        self.wrapper.check()
        with self.connection.writing(self):
            await self.wrapper.wait_until(ready)


def _check_binary(headers: Headers) -> None:
    """Raise for a `-bin` value that is not base64, before grpclib trips over it."""
    for key, value in headers:
        if key.endswith("-bin"):
            try:
                decode_bin_value(value.encode("ascii"))
            except ValueError as error:
                raise ProtocolViolationError(f"the value of header {key!r} is not base64") from error
