"""A yamux stream as an asyncio transport, on which any protocol runs; TLS is such a protocol."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from supervisor.transport.yamux.connection import Multiplexer

__all__ = ["StreamTransport"]

_HIGH_WATER: Final = 64 * 1024
_LOW_WATER: Final = 16 * 1024
"""Bytes waiting to be sent from which a protocol is told to pause, and to go on."""


class StreamTransport(asyncio.Transport):
    """One stream. It never blocks the others: what its protocol does not take stays within its window of 256 KiB."""

    def __init__(self, multiplexer: Multiplexer, stream_id: int, protocol: asyncio.Protocol, *, peer: Any) -> None:
        super().__init__({"peername": peer, "sockname": f"yamux stream {stream_id}"})
        self._multiplexer = multiplexer
        self._session = multiplexer.session
        self._id = stream_id
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[bytes] = deque()
        self._reading = True
        self._end_received = False
        self._closing = False
        self._lost = False
        self._told_to_pause = False

    def __repr__(self) -> str:
        return f"<StreamTransport {self._id} {'closing' if self._closing else 'open'}>"

    # --- asyncio's interface ---------------------------------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that gets what the peer sends."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change it."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes; those written after the end are dropped."""
        if self._closing or not data:
            return
        self._session.write(self._id, data)
        self._multiplexer.flush()
        if not self._told_to_pause and self.get_write_buffer_size() > _HIGH_WATER:
            self._told_to_pause = True
            self._multiplexer.watch(self, waits=True)
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not left."""
        return self._session.unsent(self._id)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the sizes at which the protocol is told to go on, and to pause."""
        return _LOW_WATER, _HIGH_WATER

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the limits are fixed."""

    def can_write_eof(self) -> bool:
        """Say that one direction can be ended by itself."""
        return True

    def write_eof(self) -> None:
        """Send no more, and go on receiving."""
        self._session.end(self._id)
        self._multiplexer.flush()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether the protocol takes bytes."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Hand on no more bytes; the peer may send what its window still allows."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on bytes again."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._catch_up)

    def close(self) -> None:
        """Close when what was written has left. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._inbox.clear()
        self._session.end(self._id)
        self._multiplexer.watch(self, waits=True)
        self._multiplexer.flush()

    def abort(self) -> None:
        """Close now; what has not left is lost."""
        self._session.reset(self._id)
        self._multiplexer.flush()
        self.lose(None)

    # --- what the multiplexer tells --------------------------------------------------------------------------------

    def sent(self) -> None:
        """Take note that bytes may have left."""
        size = self.get_write_buffer_size()
        if self._closing:
            if not size:
                self.lose(None)
        elif self._told_to_pause and size <= _LOW_WATER:
            self._told_to_pause = False
            self._multiplexer.watch(self, waits=False)
            self._protocol.resume_writing()

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if not self._closing:
            self._inbox.append(data)
            self._deliver()

    def receive_end(self) -> None:
        """Take the end of what the peer sends."""
        self._end_received = True
        self._deliver()

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol, in a later turn of the loop, that the stream has ended; the first reason counts."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._inbox.clear()
        self._multiplexer.watch(self, waits=False)
        self._multiplexer.forget(self._id)
        if not self._loop.is_closed():
            self._loop.call_soon(self._protocol.connection_lost, error)

    def _catch_up(self) -> None:
        self._deliver()
        self._multiplexer.flush()

    def _deliver(self) -> None:
        while self._inbox and self._reading and not self._closing:
            data = self._inbox.popleft()
            self._feed(data)
            self._session.consume(self._id, len(data))
        if self._end_received and not self._inbox and self._reading and not self._closing:
            self._end_received = False
            if not self._protocol.eof_received():
                self.close()

    def _feed(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001  # as asyncio's own transports: a protocol's defect ends its connection
            self._loop.call_exception_handler(
                {"message": "a protocol on a yamux stream failed", "exception": error, "transport": self}
            )
            self.abort()
