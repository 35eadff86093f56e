"""What arrives on a connection, and what it means for the calls on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, EventsProcessor, H2Protocol, Stream
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from supervisor.errors import CallResetError, ProtocolViolationError
from supervisor.transport.connection import WireConnection
from supervisor.transport.http2 import CONNECTION_WINDOW, STREAM_WINDOW, PatientH2Connection, configuration
from supervisor.transport.sockets import read_leftover
from supervisor.transport.stream import Headers, WireStream
from supervisor.transport.tls_records import is_tls_record

__all__ = ["WireProtocol", "wire_configuration"]

_ABRUPT_CLOSE = "the connection was closed by this side"

_ENDING = 100
"""Handlers that may be ending at once, beside as many as may be at work."""


class _WireProcessor(EventsProcessor):
    """What each HTTP/2 event means for streams; an event that is not listed means nothing."""

    connection: WireConnection

    def __init__(self, handler: AbstractHandler, connection: WireConnection, protocol: WireProtocol) -> None:
        super().__init__(handler, connection)
        self.streams = cast("dict[int, Stream]", connection.streams)
        self._protocol = protocol

    def register(self, stream: Stream) -> Callable[[], None]:
        """Enter a stream; the function returned takes it out again, and may be called twice."""
        stream_id = cast("int", stream.id)
        self.streams[stream_id] = stream
        return partial(self._release, stream_id)

    def _release(self, stream_id: int) -> None:
        stream = self.connection.streams.pop(stream_id, None)
        if stream is not None:
            self.connection.ack(stream_id, stream.unread())
            self.connection.wake_queue()
            self._protocol.stream_released()

    def close(self, reason: str = _ABRUPT_CLOSE) -> None:
        """End the connection from this side."""
        self._protocol.end(reason, abrupt=True)

    def process(self, event: Event) -> None:
        """Act on an event."""
        processors = getattr(self, "processors", None)  # grpclib deletes it at the end
        if processors is not None and (act := processors.get(type(event))) is not None:
            act(event)

    def process_request_received(self, event: RequestReceived) -> None:
        """Start a call, unless there are too many or this side is going away."""
        stream = self.connection.create_stream(stream_id=event.stream_id)
        if self._protocol.refuses_streams():
            stream.reset_nowait(ErrorCodes.REFUSED_STREAM)
            return
        self.handler.accept(stream, cast("Any", event.headers), self.register(stream))

    def process_response_received(self, event: ResponseReceived) -> None:
        """Hand the response headers to their stream."""
        if (stream := self._find(event.stream_id)) is not None:
            stream.headers = cast("Headers", event.headers)
            stream.wrapper.wake()

    def process_trailers_received(self, event: TrailersReceived) -> None:
        """Hand the trailers to their stream."""
        if (stream := self._find(event.stream_id)) is not None:
            stream.trailers = cast("Headers", event.headers)
            stream.wrapper.wake()

    def process_data_received(self, event: DataReceived) -> None:
        """Hand bytes to their stream; nobody's bytes are acknowledged, an empty frame means nothing."""
        size = event.flow_controlled_length or 0
        if (stream := self._find(event.stream_id)) is None or not event.data:
            self.connection.ack(event.stream_id, size)
        else:
            stream.push(event.data, size)

    def process_window_updated(self, event: WindowUpdated) -> None:
        """Wake who may wait for the window."""
        if event.stream_id:
            if (stream := self._find(event.stream_id)) is not None:
                stream.wrapper.wake()
        else:
            self.connection.wake_writers()

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:  # noqa: ARG002 - grpclib's signature
        """Windows and limits may have grown; the peer has spoken."""
        self._protocol.heard_settings()
        self.connection.wake_writers()

    def process_settings_acknowledged(self, event: SettingsAcknowledged) -> None:  # noqa: ARG002 - grpclib's signature
        """Note that the peer has read this side's settings: it speaks HTTP/2 and is not asleep."""
        self._protocol.heard_acknowledgement()

    def process_stream_reset(self, event: StreamReset) -> None:
        """End one call; a reset after a complete response only says that the rest of the request is not wanted."""
        stream = self._find(event.stream_id)
        if stream is None or stream.answered:
            return
        code = event.error_code
        name = code.name if isinstance(code, ErrorCodes) else str(code)
        stream.refused = code == ErrorCodes.REFUSED_STREAM
        who = "peer" if event.remote_reset else "connection"
        stream.wrapper.fail(
            lambda: CallResetError(
                f"the {who} reset the call: {name}", code=name, maybe_executed=stream.maybe_executed
            ),
            abrupt=False,
        )
        self.handler.cancel(stream)

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """Finish what the peer still serves; with an error code it serves nothing."""
        self.connection.drain(event.last_stream_id or 0)  # it has not looked at those above, whatever the reason
        if event.error_code == ErrorCodes.NO_ERROR:
            self._protocol.stream_released()
        else:
            code = event.error_code
            name = code.name if isinstance(code, ErrorCodes) else str(code)
            self._protocol.end(f"the peer ended the connection: {name}", abrupt=False)

    def _find(self, stream_id: int | None) -> WireStream | None:
        return self.connection.streams.get(cast("int", stream_id))


class WireProtocol(H2Protocol):
    """A socket's callbacks.

    Attributes:
        greeted: done when the peer has sent its settings and acknowledged ours; fails when the connection ends first.
        closed: done when the socket is closed.
    """

    connection: WireConnection
    processor: _WireProcessor

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        *,
        client_side: bool,
        limit: int,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(handler, config, configuration(client_side=client_side))
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.on_end = on_end
        self._limit = limit
        self._settings_heard = False
        self._going_away = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first, as both sides of HTTP/2 do."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            # asyncio sets it only where the socket was made with an explicit protocol number.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        h2 = PatientH2Connection(self.h2_config, max_streams=self._limit)
        h2.start()
        self.connection = WireConnection(
            h2, cast("asyncio.Transport", transport), config=self.config, limit=self._limit
        )
        self.processor = _WireProcessor(self.handler, self.connection, self)
        self.connection.flush()
        self.connection.initialize()

    def data_received(self, data: bytes) -> None:
        """Act on what the peer sent; anything it may not send ends the connection, not the process."""
        if self.connection.failure is not None:
            return
        if not self._settings_heard and is_tls_record(data):
            self.end("the peer speaks TLS, and this side was not told to", abrupt=False, violation=True)
            return
        try:
            events = self.connection.feed(data)
            self.connection.flush()
            for event in events:
                self.processor.process(event)
            self.connection.flush()
        except Exception as error:  # noqa: BLE001 - h2, hpack and hyperframe raise a zoo; asyncio would log it
            self.connection.flush()  # h2 has queued a GOAWAY that names the violation
            self.end(f"the peer broke HTTP/2: {error or type(error).__name__}", abrupt=False, violation=True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is closed."""
        transport = getattr(self.connection, "_transport", None)  # None when this side has closed it
        if transport is not None and (leftover := read_leftover(transport, exc)):
            self.data_received(leftover)
        violation = isinstance(exc, ProtocolViolationError)  # of what carries this connection
        reason = f"the connection was lost: {exc}" if exc else "the connection was lost"
        self.end(reason, abrupt=False, violation=violation)
        if not self.closed.done():
            self.closed.set_result(None)

    def end(self, reason: str, *, abrupt: bool, violation: bool = False) -> None:
        """End the connection and everything on it; idempotent."""
        first = self.connection.failure is None
        self.connection.end(reason, abrupt=abrupt, violation=violation)
        if not first:
            return
        self.handler.close()
        if not self.greeted.done():
            assert self.connection.failure is not None
            self.greeted.set_exception(self.connection.failure())
            self.greeted.exception()  # nobody may be waiting, which is no reason for a warning
        if self.on_end is not None:
            self.on_end()

    def finish(self) -> None:
        """Close the socket when the peer has taken what was written; the caller bounds the wait for `closed`."""
        if not self.connection.is_closing():
            self.connection._transport.close()  # noqa: SLF001 - grpclib's name

    def go_away(self) -> None:
        """Tell the peer to open no more streams; those that are open are served."""
        if not self._going_away and not self.connection.is_closing():
            self._going_away = True
            self.connection._connection.go_away()  # noqa: SLF001 - grpclib's name for the h2 connection
            self.connection.flush()

    def refuses_streams(self) -> bool:
        """Whether a stream that the peer opens now is one too many, or too late.

        A stream that the peer has reset is closed for HTTP/2, and no longer counts against it, while its handler may
        still be ending; unless there are as many of those again, which only an attack by resets brings about.
        """
        streams = self.connection.streams
        if self._going_away or len(streams) >= 2 * self._limit + _ENDING:
            return True
        return len(streams) >= self._limit and sum(s.closable for s in streams.values()) >= self._limit

    def heard_settings(self) -> None:
        """Note that the peer sent its settings."""
        self._settings_heard = True

    def heard_acknowledgement(self) -> None:
        """Note that the peer acknowledged ours."""
        if self._settings_heard and not self.greeted.done():
            self.greeted.set_result(None)

    def stream_released(self) -> None:
        """Close a draining connection after its last call."""
        if self.connection.draining and not self.connection.streams:
            self.end("the peer shut down", abrupt=False)


def wire_configuration() -> Configuration:
    """Return grpclib's configuration: the windows are set by `http2`, and no keepalive.

    HTTP/2 pings are no liveness probe: Go's server answers one a second with GOAWAY `too_many_pings`.
    """
    return Configuration(
        _keepalive_time=None,
        http2_connection_window_size=CONNECTION_WINDOW,
        http2_stream_window_size=STREAM_WINDOW,
    )
