"""The asyncio side of a connection: what its socket tells, what its calls are told, and the end of it all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import cast

from supervisor.errors import CallResetError, ConnectionLostError, ProtocolViolationError
from supervisor.transport.engine.faults import ErrorCode, WireViolationError, code_name
from supervisor.transport.engine.headers import HeaderBlock
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import MakeError
from supervisor.transport.engine.timers import DeadlineWheel
from supervisor.transport.engine.tuning import keep_large_blocks, tune_socket
from supervisor.transport.engine.waiting import WaitingStream
from supervisor.transport.engine.writing import WritingSide
from supervisor.transport.sockets import read_leftover

__all__ = ["EngineProtocol"]


class EngineProtocol(WritingSide):
    """A socket's callbacks, and the connection's owner.

    Attributes:
        greeted: done when the peer has sent its settings and acknowledged ours; fails when the connection ends first.
        closed: done when the socket is closed.
        now: when bytes arrived last, by the loop's clock.
    """

    def __init__(self, settings: WireSettings, *, on_end: Callable[[], None] | None = None) -> None:
        super().__init__(settings)
        self.on_end = on_end
        self.greeted: asyncio.Future[None] = self.loop.create_future()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.deadlines = DeadlineWheel(self.loop)
        self.now = self.loop.time()
        self._settings_heard = False
        self._going_away = False
        self._windows_opened = False

    # --- the socket's callbacks --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first, as both sides of HTTP/2 do."""
        self.transport = cast("asyncio.Transport", transport)
        self._send = self.transport.write
        tune_socket(transport)
        keep_large_blocks()
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
        self.stop_writing()
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
