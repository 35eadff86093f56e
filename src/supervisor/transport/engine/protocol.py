"""The asyncio side of a connection: its socket, what waits to be written, and the end of it all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, Final, cast

from supervisor.errors import CallResetError, ConnectionLostError, ProtocolViolationError
from supervisor.transport.codec import Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import (
    ErrorCode,
    FloodError,
    WireViolationError,
    code_name,
)
from supervisor.transport.engine.headers import HeaderBlock
from supervisor.transport.engine.heap import keep_large_blocks
from supervisor.transport.engine.roles import ClientConnection, ServerConnection
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import MakeError
from supervisor.transport.engine.timers import DeadlineWheel
from supervisor.transport.engine.waiting import TURN, WaitingStream
from supervisor.transport.sockets import read_leftover

__all__ = ["EngineProtocol"]

_BATCH: Final = 8
"""Writes that are joined. With more, host and plugin take turns instead of working at the same time."""

_STREAM_BATCH: Final = TURN
"""Messages of streams that are joined: as many as one of them may send before others have their turn."""

_BATCH_BYTES: Final = 65_536

_SEND_BUFFER: Final = 1 << 20
"""Bytes asked of the kernel for what a unix socket holds; it gives what it may and doubles that. A sender that filled it is
woken when three quarters are free: what is left then has to keep the receiver busy until the sender runs."""

_LARGE: Final = 131_072
"""Bytes from which a message is not joined with what goes before it."""
_SMALL: Final = 16_384
"""Bytes that are worth joining with what is before and after them."""


class EngineProtocol(asyncio.Protocol):
    """A socket's callbacks, and the connection's owner.

    Attributes:
        greeted: done when the peer has sent its settings and acknowledged ours; fails when the connection ends first.
        closed: done when the socket is closed.
        failure: makes the error with which the connection ended; None while it is open.
        draining: the peer takes no more streams.
        writable: the socket takes bytes.
        now: when bytes arrived last, by the loop's clock.
        ready: writable, and the connection neither draining nor at its end.
    """

    connection: ClientConnection | ServerConnection

    def __init__(self, settings: WireSettings, *, on_end: Callable[[], None] | None = None) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.settings = settings
        self.on_end = on_end
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.deadlines = DeadlineWheel(loop)
        self.transport: asyncio.Transport | None = None
        self.failure: MakeError | None = None
        self.draining = False
        self.now = loop.time()
        self.writable = True
        self.ready = True
        self.writers: dict[WaitingStream, None] = {}  # those that wait for a window or for the socket
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._flush_scheduled = False
        self._held = False
        self._settings_heard = False
        self._going_away = False
        self._windows_opened = False
        self._send: Callable[[Any], None] = _drop

    # --- the socket's callbacks --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first, as both sides of HTTP/2 do."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            # asyncio sets it only where the socket was made with an explicit protocol number.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock is not None and sock.family == socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        keep_large_blocks()  # asyncio reads into a block of 256 KiB, each time a new one
        self._send = self.transport.write
        self.connection.start()

    def data_received(self, data: bytes) -> None:
        """Act on what the peer sent; anything it may not send ends the connection, not the process."""
        if self.failure is not None:
            return
        self.now = self.loop.time()
        # What it answers goes out in one write: a thousand small ones cost asyncio the square of that.
        self._held = True
        try:
            self.connection.receive(data)
        except WireViolationError as error:
            self.connection.go_away(error.code, str(error))
            self._end(partial(copy, error), abrupt=False)
            return
        self._held = not self.writable
        if self._windows_opened:
            self._windows_opened = False
            self.wake_writers()
        if self._held:
            self.check_backlog()
        elif self._batch and not self._flush_scheduled:
            self.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is closed, or what carries this connection has ended, perhaps by a fault of the peer's."""
        if self.transport is not None and (leftover := read_leftover(self.transport, exc)):
            self.data_received(leftover)
        kind = ProtocolViolationError if isinstance(exc, ProtocolViolationError) else ConnectionLostError
        self._end(partial(kind, f"the connection was lost: {exc}" if exc else "the connection was lost"), abrupt=False)
        if not self.closed.done():
            self.closed.set_result(None)

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

    # --- what is written ---------------------------------------------------------------------------------------------

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
            if (
                not self.transport.is_closing()
            ):  # a socket that failed is told of a turn later, and asyncio logs until then
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

    # --- the connection's owner --------------------------------------------------------------------------------------

    def accept(self, stream_id: int, headers: HeaderBlock, *, end: bool) -> None:
        """Only a server's side is asked."""
        raise NotImplementedError

    def accept_whole(self, stream_id: int, headers: HeaderBlock, message: bytes) -> bool:
        """Only a server's side is asked."""
        raise NotImplementedError

    def stream_reset(self, stream: WaitingStream, code: int) -> None:
        """End one call; a reset after the peer's last word only says that the rest is not wanted."""
        refused = code == ErrorCode.REFUSED_STREAM
        name = code_name(code)
        reason = f"the peer reset the call: {name}"
        stream.lose(partial(CallResetError, reason, code=name, maybe_executed=not refused), abrupt=False)

    def windows_opened(self) -> None:
        """Note that writers are to be woken, once for all that has arrived: a peer may say it thousands of times."""
        self._windows_opened = True

    def wake_writers(self) -> None:
        """Let those who wait to send look again, and only them: ten thousand may be waiting for answers."""
        for stream in tuple(self.writers):
            stream.wake()

    def settings_heard(self) -> None:
        """Note that the peer sent its settings."""
        self._settings_heard = True

    def settings_taken(self) -> None:
        """Note that the peer acknowledged ours."""
        if self._settings_heard and not self.greeted.done():
            self.greeted.set_result(None)

    def going_away(self, last_stream_id: int, code: int) -> None:
        """Finish what the peer still serves; with an error code it serves nothing."""
        if code != ErrorCode.NO_ERROR:
            self.drain(last_stream_id)  # it has not looked at those, whatever it has against the others
            self.end(f"the peer ended the connection: {code_name(code)}", abrupt=False)
            return
        self.draining = True
        self.ready = False
        self.drain(last_stream_id)
        if not self.connection.streams:
            self.end("the peer shut down", abrupt=False)

    def drain(self, last_stream_id: int) -> None:
        """End what the peer has not taken of this side's calls: those above a stream, and those that queue."""

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, reason: str, *, abrupt: bool) -> None:
        """Close the connection and end every call on it; idempotent."""
        self._end(partial(ConnectionLostError, reason), abrupt=abrupt)

    def _end(self, make_error: MakeError, *, abrupt: bool) -> None:
        first = self.failure is None
        if first:
            self.flush()
        self._close_socket()
        if not first:
            return
        self.failure = make_error
        self.ready = False
        self._send = _drop
        self.deadlines.close()
        for stream in self.waiting_calls():
            stream.lose(make_error, abrupt=abrupt)
        if not self.greeted.done():
            self.greeted.set_exception(make_error())
            self.greeted.exception()  # nobody may be waiting, which is no reason for a warning
        if self.on_end is not None:
            self.on_end()

    def waiting_calls(self) -> tuple[WaitingStream, ...]:
        """Return the calls that end with the connection."""
        return tuple(self.connection.streams.values())

    def _close_socket(self) -> None:
        """Close now: `close()` of a transport waits for a flush that a stopped peer never takes."""
        if self.transport is not None:
            stuck = self.transport.get_write_buffer_size() > 0
            self.transport.close()
            if stuck:
                self.transport.abort()

    def finish(self) -> None:
        """Close the socket when the peer has taken what was written; the caller bounds the wait for `closed`."""
        self.flush()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def go_away(self) -> None:
        """Tell the peer to open no more streams; those that are open are served."""
        if not self._going_away and self.failure is None and self.transport is not None:
            self._going_away = True
            self.flush()
            self.connection.go_away()


def _drop(_: Any) -> None:
    """Write nothing: the connection is not open."""
