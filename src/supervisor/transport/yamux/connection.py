"""One raw connection that carries many: each yamux stream is a transport on which any asyncio protocol runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from supervisor.errors import ConnectionLostError, ProtocolViolationError
from supervisor.transport.sockets import read_leftover
from supervisor.transport.yamux.session import (
    DataReceived,
    Event,
    Session,
    StreamAccepted,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from supervisor.transport.yamux.streams import StreamTransport

__all__ = ["Accept", "Multiplexer"]

Accept = Callable[[], "asyncio.Protocol | None"]
"""Returns the protocol for a stream that the peer has opened; None refuses it."""

_OPEN_TIMEOUT: Final = 75.0
"""Seconds for the peer to accept a stream; hashicorp/yamux ends the session after as many."""

_LINGER: Final = 30.0
"""Seconds for the peer to end its direction of a stream that this side has closed; hashicorp/yamux waits five minutes."""

_FAREWELL: Final = 1.0
"""Seconds for a peer that broke the protocol to read which way."""

_TAKE: Final = 64 * 1024
"""Bytes handed to the raw connection at a time."""


class Multiplexer(asyncio.Protocol):
    """The protocol of the raw connection; the side that made the connection is the client.

    The streams end with it. TLS, if there is any, is the streams' own business.

    Attributes:
        closed: done when the raw connection is closed.
        accept: asked for each stream that the peer opens; refuses all until it is set.
        on_refused: told of each stream that the peer opens and for which there is no room.
    """

    def __init__(self, *, client: bool, limit: int) -> None:
        """Prepare for a connection.

        Args:
            client: whether this side made the raw connection.
            limit: streams open at once, whoever opened them.
        """
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.accept: Accept = lambda: None
        self.on_refused: Callable[[], None] = lambda: None
        self._session = Session(client=client)
        self._limit = limit
        self._raw: asyncio.Transport | None = None
        self._writable = True
        self._failure: Exception | None = None
        self._transports: dict[int, StreamTransport] = {}
        self._senders: set[StreamTransport] = set()
        self._aborting: asyncio.TimerHandle | None = None
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        state = "ended" if self.is_lost else "open"
        return f"<Multiplexer {state}, {len(self._transports)} streams>"

    @property
    def is_lost(self) -> bool:
        """Whether there is no connection, or none any more."""
        return self._raw is None or self._failure is not None

    @property
    def is_full(self) -> bool:
        """Whether there are as many streams as there may be."""
        return self._session.streams >= self._limit

    def open(self, protocol: asyncio.Protocol, *, invited: bool = False) -> StreamTransport:
        """Open a stream for `protocol`, which is connected when this returns.

        Raises:
            ConnectionLostError: the session is over, or has as many streams as it may have and the peer does not wait
                for this one (`invited`).
        """
        if self.is_lost:
            why = "has not been made" if self._failure is None else f"has ended: {self._failure}"
            raise ConnectionLostError(f"the multiplexed connection {why}", maybe_executed=False)
        if self.is_full and not invited:
            raise ConnectionLostError(f"there are {self._limit} multiplexed streams already", maybe_executed=False)
        stream_id = self._session.open()
        self._timers[stream_id] = self._loop.call_later(_OPEN_TIMEOUT, self._open_timed_out)
        return self._connect(stream_id, protocol)

    def close(self) -> None:
        """End the session and all its streams, now. Idempotent."""
        self._end(ConnectionLostError("the multiplexed connection was closed by this side"))

    # --- the raw connection's callbacks ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; neither side of yamux has to speak first."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Act on what the peer sent; what it may not send ends the session."""
        for event in self._session.receive(data):
            if self._failure is not None:
                return  # a protocol above has ended it meanwhile
            self._act_on(event)
        self.flush()
        if self._session.failure is not None:
            self._end(self._session.failure)

    def connection_lost(self, exc: Exception | None) -> None:
        """End every stream: the raw connection is closed."""
        if self._raw is not None and (leftover := read_leftover(self._raw, exc)):
            self.data_received(leftover)
        self._end(exc or ConnectionLostError("the multiplexed connection was lost"))
        if self._aborting is not None:
            self._aborting.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """Keep what the streams write to themselves: the raw connection is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self.flush()

    # --- what streams ask for --------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session, for the streams' transports; `flush` after asking it for something."""
        return self._session

    def flush(self) -> None:
        """Send what there is, and tell the streams whose bytes have left."""
        raw = self._raw
        if raw is None or raw.is_closing():
            return
        while self._writable and (data := self._session.take(_TAKE)):
            raw.write(data)
        for transport in tuple(self._senders):
            transport.sent()

    def watch(self, transport: StreamTransport, *, waits: bool) -> None:
        """Tell a stream's transport after each `flush` that bytes have left, or no longer."""
        if waits:
            self._senders.add(transport)
        else:
            self._senders.discard(transport)

    def forget(self, stream_id: int) -> None:
        """Take a stream's transport out; the session goes on until the peer has ended its direction too."""
        if self._transports.pop(stream_id, None) is not None:
            self._cancel_timer(stream_id)
            if self._session.has(stream_id) and not self.is_lost:
                self._timers[stream_id] = self._loop.call_later(_LINGER, self._linger_timed_out, stream_id)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _connect(self, stream_id: int, protocol: asyncio.Protocol) -> StreamTransport:
        assert self._raw is not None
        transport = StreamTransport(self, stream_id, protocol, peer=self._raw.get_extra_info("peername"))
        self._transports[stream_id] = transport
        protocol.connection_made(transport)
        self.flush()
        return transport

    def _act_on(self, event: Event) -> None:
        transport = self._transports.get(event.stream_id)
        match event:
            case StreamOpened(stream_id):
                self._take_stream(stream_id)
            case StreamAccepted(stream_id):
                if transport is not None:
                    self._cancel_timer(stream_id)
            case DataReceived(_, data):
                if transport is not None:  # else it was closed on this side: dropped, and the peer's window stays small
                    transport.receive(data)
            case StreamEnded(stream_id):
                if transport is not None:
                    transport.receive_end()
                else:
                    self._cancel_timer(stream_id)
            case StreamReset(stream_id):
                self._cancel_timer(stream_id)
                if transport is not None:
                    transport.lose(ConnectionResetError("the peer reset the yamux stream"))

    def _take_stream(self, stream_id: int) -> None:
        protocol = None
        if self._session.streams <= self._limit:
            protocol = self.accept()
        else:
            self.on_refused()
        if protocol is None:
            self._session.reset(stream_id)
        else:
            self._session.accept(stream_id)
            self._connect(stream_id, protocol)

    def _cancel_timer(self, stream_id: int) -> None:
        if (timer := self._timers.pop(stream_id, None)) is not None:
            timer.cancel()

    def _open_timed_out(self) -> None:
        self._end(ProtocolViolationError(f"the peer did not accept a yamux stream within {_OPEN_TIMEOUT:g} s"))

    def _linger_timed_out(self, stream_id: int) -> None:
        self._timers.pop(stream_id, None)
        self._session.reset(stream_id)
        self.flush()

    def _end(self, failure: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for transport in tuple(self._transports.values()):
            transport.lose(failure)
        raw = self._raw
        if raw is None:
            return
        raw.close()
        if raw.get_write_buffer_size() > 0:
            # A close waits for the peer to read, which may never be. What it may still read says what it did wrong.
            if self._session.failure is not None:
                self._aborting = self._loop.call_later(_FAREWELL, raw.abort)
            else:
                raw.abort()
