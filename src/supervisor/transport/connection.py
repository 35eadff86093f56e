"""One HTTP/2 connection, both sides: h2 and the socket between them, the calls that are open and those that queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from functools import partial

from grpclib.config import Configuration
from grpclib.protocol import Connection
from grpclib.utils import Wrapper
from h2.exceptions import H2Error

from supervisor.errors import ConnectionLostError, ProtocolViolationError
from supervisor.transport.http2 import PatientH2Connection
from supervisor.transport.scope import CallScope, MakeError
from supervisor.transport.stream import WireStream

__all__ = ["WireConnection"]


class WireConnection(Connection):
    """h2 and the socket between them, the calls that are open and those that wait for their turn."""

    _connection: PatientH2Connection

    def __init__(
        self, h2_connection: PatientH2Connection, transport: asyncio.Transport, *, config: Configuration, limit: int
    ) -> None:
        super().__init__(h2_connection, transport, config=config)
        self.client_side: bool = bool(h2_connection.config.client_side)
        self.writable = True
        self.streams: dict[int, WireStream] = {}
        self._writers: dict[object, WireStream] = {}
        self.draining = False
        self.failure: MakeError | None = None
        self._limit = limit
        self._queue: deque[WireStream] = deque()

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> WireStream:
        """Make a stream; it is registered when it has an id."""
        scope = wrapper if isinstance(wrapper, CallScope) else CallScope()
        return WireStream(self, self._connection, self._transport, scope=scope, stream_id=stream_id)

    async def wait_turn(self, stream: WireStream) -> None:
        """Wait, first come first served, until the peer takes one more stream and the socket takes bytes."""
        self._check_open()
        if not self._queue and self._may_open():
            stream.wrapper.check()
            return
        self._queue.append(stream)
        try:
            await stream.wrapper.wait_until(lambda: self._queue[0] is stream and self._may_open())
            self._check_open()
        finally:
            self._queue.remove(stream)
            self.wake_queue()

    def _check_open(self) -> None:
        if self.failure is not None or self.draining or self.is_closing():
            raise ConnectionLostError("the connection takes no more calls", maybe_executed=False)

    def _may_open(self) -> bool:
        peer = self._connection.remote_settings.max_concurrent_streams
        return self.writable and len(self.streams) < min(peer, self._limit)

    def wake_queue(self) -> None:
        """Let the first call in the queue look whether it is its turn."""
        if self._queue:
            self._queue[0].wrapper.wake()

    def pause_writing(self) -> None:
        """The socket is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.writable = True
        self.wake_writers()

    @contextlib.contextmanager
    def writing(self, stream: WireStream) -> Iterator[None]:
        """Have `wake_writers` wake this stream while the body runs."""
        token = object()
        self._writers[token] = stream
        try:
            yield
        finally:
            del self._writers[token]

    def wake_writers(self) -> None:
        """Let those who wait to send look again, and only them: ten thousand may be waiting for answers."""
        for stream in tuple(self._writers.values()):
            stream.wrapper.wake()
        self.wake_queue()

    def flush(self) -> None:
        """Write what h2 has queued; what comes after the end is dropped."""
        if not self.is_closing():
            super().flush()

    def ack(self, stream_id: int, size: int) -> None:
        """Give the peer back `size` bytes of its windows."""
        if size and not self.is_closing():
            with contextlib.suppress(H2Error):
                self._connection.acknowledge_received_data(size, stream_id)
            self.flush()

    def drain(self, last_stream_id: int) -> None:
        """Open no more streams: the peer sent a GOAWAY and will not look at this side's above `last_stream_id`."""
        self.draining = True
        for stream_id, stream in tuple(self.streams.items()):
            if stream_id > last_stream_id and self.client_side:
                stream.refused = True
                stream.lose("the peer is shutting down and did not take the call", abrupt=False)
        for stream in tuple(self._queue):
            stream.lose("the peer is shutting down and takes no more calls", abrupt=True)

    def end(self, reason: str, *, abrupt: bool, violation: bool = False) -> None:
        """Close the connection and end every call on it and in its queue; idempotent."""
        self.close()
        if self.failure is not None:
            return
        error = ProtocolViolationError if violation else ConnectionLostError
        self.failure = partial(error, reason)
        for stream in (*self.streams.values(), *self._queue):
            stream.lose(reason, abrupt=abrupt, violation=violation)

    def close(self) -> None:
        """Close the socket, now: `close()` of a transport waits for a flush that a stopped peer never takes."""
        transport: asyncio.Transport | None = getattr(self, "_transport", None)
        if transport is not None:
            stuck = transport.get_write_buffer_size() > 0
            super().close()
            if stuck:
                transport.abort()
