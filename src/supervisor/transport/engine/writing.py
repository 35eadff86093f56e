"""What a connection writes: small pieces joined, large ones uncopied, and no more than the peer and the socket take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from supervisor.transport.codec import Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import FloodError
from supervisor.transport.engine.roles import ClientConnection, ServerConnection
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import MakeError
from supervisor.transport.engine.waiting import TURN, WaitingStream

__all__ = ["WritingSide"]

_BATCH: Final = 8
"""Writes that are joined. With more, host and plugin take turns instead of working at the same time."""

_STREAM_BATCH: Final = TURN
"""Messages of streams that are joined: as many as one of them may send before others have their turn."""

_BATCH_BYTES: Final = 65_536

_SMALL: Final = 16_384
"""Bytes below which a message is joined with what is written before and after it."""

_LARGE: Final = 131_072
"""Bytes from which a system call of its own costs less than a copy."""


class WritingSide(asyncio.Protocol):
    """The writing half of a connection's asyncio side; `EngineProtocol` is the rest.

    Attributes:
        connection: what is spoken on it.
        transport: what takes the bytes; None until there is one.
        failure: makes the error with which the connection ended; None while it is open.
        draining: the peer takes no more streams.
        writable: the socket takes bytes.
        ready: writable, and the connection neither draining nor at its end.
        writers: the streams that wait for a window or for the socket.
    """

    connection: ClientConnection | ServerConnection

    def __init__(self, settings: WireSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.transport: asyncio.Transport | None = None
        self.failure: MakeError | None = None
        self.draining = False
        self.writable = True
        self.ready = True
        self.writers: dict[WaitingStream, None] = {}
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._flush_scheduled = False
        self._held = False  # what is written waits: for a socket that is full, or until all that arrived was looked at
        self._send: Callable[[Any], None] = _drop

    def pause_writing(self) -> None:
        """The socket is full."""
        self.writable = self.ready = False
        self._held = True

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.writable = True
        self.ready = self.failure is None and not self.draining
        self._held = False
        self.flush()
        self.wake_writers()

    def write(self, data: bytes) -> None:
        """Write bytes: at once when one call is under way, else with what its neighbours write in this turn."""
        if not (self._flush_scheduled or self._held) and len(self.connection.streams) < 2:  # noqa: PLR2004 - none beside it
            self._send(data)
        else:
            self._join(data, _BATCH)

    def _join(self, data: bytes, most: int) -> None:
        """Write bytes with the next ones, `most` writes together at most, at the end of this turn at the latest."""
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._held:
            return  # until the socket takes bytes again, or all that has arrived was looked at
        if len(self._batch) >= most or self._batch_bytes >= _BATCH_BYTES:
            self.flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_later)

    def write_message(self, head: bytes, body: bytes | memoryview | Pieces, tail: bytes = b"") -> None:
        """Write a message with what goes before and behind it; what is large of it is not copied for that."""
        if len(body) < _SMALL:
            # The next one is probably on its way.
            self._join(head + body + tail, _STREAM_BATCH)  # type: ignore[operator] # pieces are larger
            return
        self.flush()
        parts = body.parts if type(body) is Pieces else (body,)
        if len(body) < _LARGE:
            self._send(b"".join((head, *parts, tail)))
            return
        for part in parts:
            if len(part) < _LARGE:
                head += part  # type: ignore[operator] # that of a view is not small
            else:
                self._send(head)  # a system call of its own costs less than a copy
                self._send(part)
                head = b""
        if head or tail:
            self._send(head + tail)

    def flush(self) -> None:
        """Write what waits."""
        batch = self._batch
        if batch:
            self._batch, self._batch_bytes = [], 0
            assert self.transport is not None
            # That a socket failed is told a turn later, and until then asyncio logs what is written.
            if not self.transport.is_closing():
                self._send(batch[0] if len(batch) == 1 else b"".join(batch))

    def _flush_later(self) -> None:
        self._flush_scheduled = False
        if self.writable:
            self.flush()

    def check_backlog(self) -> bool:
        """Whether small writes may still overtake a socket that is full; ends a connection whose peer only talks.

        A peer that asks and never reads would otherwise have its answers pile up here.
        """
        if self.transport is None or self.failure is not None:
            return False
        backlog = self._batch_bytes + self.transport.get_write_buffer_size()
        limit = self.settings.output_backlog
        if backlog > 2 * limit:
            self._end(partial(FloodError, f"the peer left {backlog} bytes unread", limit=limit), abrupt=False)
        return backlog <= limit

    async def send_data(
        self, stream: WaitingStream, head: bytes, message: bytes | Pieces, *, compressed: int, end: bool
    ) -> None:
        """Write a message in as many frames as the windows and the socket ask for; `head` goes before it.

        Returns early when the peer has no use for it any more.

        Raises:
            Exception: what the stream failed with.
        """
        connection = self.connection
        if head:
            self.write(head)
        prefix = frames.MESSAGE_PREFIX.pack(compressed, len(message))
        view = memoryview(bytes(message))
        while prefix or view:
            await self.wait_to_send(stream)
            if stream.over():
                return
            left = len(prefix) + len(view)
            size = min(left, connection.send_window, stream.send_window, connection.peer_frame_size)
            connection.send_window -= size
            stream.send_window -= size
            flags = frames.END_STREAM if end and size == left else 0
            frame_head = frames.FRAME_HEAD.pack(size << 8 | frames.DATA, flags, stream.id)
            taken = max(0, size - len(prefix))
            self.write_message(frame_head + prefix[:size], view[:taken])
            prefix, view = prefix[size:], view[taken:]

    async def wait_to_send(self, stream: WaitingStream) -> None:
        """Wait until a byte may be sent on a stream, or the peer has no use for it.

        Raises:
            Exception: what the stream failed with.
        """
        connection = self.connection
        while not stream.over():
            stream.check()
            if self.writable and connection.send_window > 0 and stream.send_window > 0:
                return
            if self.writable:
                self.flush()
            self.writers[stream] = None
            try:
                await stream.wait()
            finally:
                if not stream.awaited:  # by another task that sends on it
                    self.writers.pop(stream, None)

    def wake_writers(self) -> None:
        """Let those who wait to send look again, and only them: ten thousand may be waiting for answers."""
        for stream in tuple(self.writers):
            stream.wake()

    def stop_writing(self) -> None:
        """Drop whatever is written from now on."""
        self._send = _drop

    # --- what the other half decides ---------------------------------------------------------------------------------

    def _end(self, make_error: MakeError, *, abrupt: bool) -> None:
        """Close the connection and end every call on it."""
        raise NotImplementedError


def _drop(_: Any) -> None:
    """Write nothing: the connection is not open."""
