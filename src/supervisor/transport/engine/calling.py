"""The client's side of a connection: calls, and those that wait until the peer takes one more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from supervisor.errors import ConnectionLostError
from supervisor.transport.engine.faults import CallQueueFullError, ErrorCode
from supervisor.transport.engine.protocol import EngineProtocol
from supervisor.transport.engine.roles import ClientConnection
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import ENDED, Stream
from supervisor.transport.engine.waiting import WaitingStream

__all__ = ["ClientProtocol"]


class ClientProtocol(EngineProtocol):
    """A client's side: calls, and those that wait until the peer takes one more.

    Attributes:
        queue: the calls that wait for their turn.
        most_open: how many may be open at once.
    """

    def __init__(self, settings: WireSettings, *, on_end: Callable[[], None] | None = None) -> None:
        super().__init__(settings, on_end=on_end)
        self.queue: deque[WaitingStream] = deque()
        self.connection: ClientConnection = ClientConnection(self, settings, self.write)
        self.most_open = settings.calls_in_flight

    def may_open(self) -> bool:
        """Whether one more call fits: by the peer's limit, by ours, and the socket takes bytes."""
        return self.writable and len(self.connection.streams) < self.most_open

    def must_queue(self) -> bool:
        """Whether a call has to wait for its turn: none overtakes another."""
        return bool(self.queue) or not self.ready or len(self.connection.streams) >= self.most_open

    def settings_heard(self) -> None:
        """Note how many calls the peer takes at once."""
        self.most_open = min(self.connection.peer_streams, self.settings.calls_in_flight)
        super().settings_heard()

    def stream_reset(self, stream: Any, code: int) -> None:
        """End one call; grpc-go's server says so that the call's deadline has passed."""
        if code == ErrorCode.CANCEL and stream.phase != ENDED and stream.is_late():
            stream.expire()
        else:
            super().stream_reset(stream, code)

    async def wait_turn(self, call: WaitingStream) -> None:
        """Wait, first come first served, until one more call fits.

        Raises:
            ConnectionLostError: the connection takes no more calls.
            CallQueueFullError: too many wait already.
        """
        self.check_open()
        if len(self.queue) >= self.settings.calls_queued:
            raise CallQueueFullError(f"{len(self.queue)} calls wait already", limit=self.settings.calls_queued)
        self.queue.append(call)
        try:
            while True:
                call.check()
                if self.queue[0] is call and self.may_open():
                    break
                await call.wait()
            self.check_open()
        finally:
            self.queue.remove(call)
            self.wake_queue()

    def check_open(self) -> None:
        """Raise when the connection takes no more calls."""
        if self.failure is not None:
            raise ConnectionLostError(f"the connection has ended: {self.failure()}", maybe_executed=False)
        if self.draining or self.transport is None or self.transport.is_closing():
            raise ConnectionLostError("the connection takes no more calls", maybe_executed=False)

    def wake_queue(self) -> None:
        """Let the first call in the queue look whether it is its turn."""
        if self.queue:
            self.queue[0].wake()

    def wake_writers(self) -> None:
        """Let those who wait to send, or to begin, look again."""
        super().wake_writers()
        self.wake_queue()

    def release(self, stream: Stream) -> None:
        """Take a call that is over off the connection; a draining connection closes after its last."""
        if stream.phase == ENDED:
            self.connection.streams.pop(stream.id, None)
        else:
            self.connection.forget(stream)
        if self.queue:
            self.queue[0].wake()
        if self.draining and not self.connection.streams:
            self.end("the peer shut down", abrupt=False)

    def drain(self, last_stream_id: int) -> None:
        """Fail the calls that the peer did not take; a second GOAWAY may name fewer."""
        for stream_id, stream in tuple(self.connection.streams.items()):
            if stream_id > last_stream_id:
                reason = "the peer is shutting down and did not take the call"
                stream.lose(partial(ConnectionLostError, reason, maybe_executed=False), abrupt=False)
        for stream in tuple(self.queue):
            reason = "the peer is shutting down and takes no more calls"
            stream.lose(partial(ConnectionLostError, reason, maybe_executed=False), abrupt=True)

    def waiting_calls(self) -> tuple[WaitingStream, ...]:
        """Return the calls that are open and those that queue."""
        return (*self.connection.streams.values(), *self.queue)
