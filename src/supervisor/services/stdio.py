"""`plugin.GRPCStdio`: what the plugin prints, streamed to the host."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from grpclib.const import Cardinality, Handler

from supervisor.services.flat_messages import Empty, StdioData
from supervisor.services.wakeup import Wakeup

if TYPE_CHECKING:
    from grpclib.client import Channel
    from grpclib.server import Stream

    from supervisor.services.reception import Reception

__all__ = ["CHUNK_LIMIT", "STDERR", "STDOUT", "StdioFollower", "StdioService", "follow"]

STDOUT: Final = 1
STDERR: Final = 2

CHUNK_LIMIT = 32 * 1024
"""Most bytes in one message."""

_STREAM = "/plugin.GRPCStdio/StreamStdio"


class StdioService:
    """The plugin's side: a bounded buffer that takes bytes from any thread, and the call that carries them away.

    Writing never blocks. Bytes are taken only while somebody listens; when the listener is slower than the writer the
    oldest chunks are dropped and their bytes counted in `dropped`. Each byte goes to one listener; the latest wins.

    Args:
        limit: most bytes kept. A handler that prints without ever awaiting fills it before any of it can leave.
        on_dropped: told how many bytes were dropped since it was told last, when there is room again.
    """

    def __init__(self, *, limit: int = 16 * 1024 * 1024, on_dropped: Callable[[int], None] | None = None) -> None:
        self.dropped = 0
        self._reported = 0
        self._on_dropped = on_dropped
        self._limit = limit
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._size = 0
        # Re-entrant: a finalizer or a signal handler may print while this thread is inside `write`.
        self._lock = threading.RLock()
        self._listener: _Listener | None = None
        self._closed = False

    def write(self, channel: int, data: bytes) -> bool:
        """Take `data` for `channel`; False when nobody listens, and then nothing was taken. From any thread."""
        with self._lock:
            if self._listener is None or self._closed:
                return False
            for start in range(0, len(data), CHUNK_LIMIT):
                chunk = data[start : start + CHUNK_LIMIT]
                self._chunks.append((channel, chunk))
                self._size += len(chunk)
            while self._size > self._limit:
                lost = len(self._chunks.popleft()[1])
                self._size -= lost
                self.dropped += lost
            self._listener.wakeup.set()
        return True

    def close(self) -> None:
        """Take nothing more and end the call after what is here. From the loop's thread."""
        with self._lock:
            self._closed = True
            if self._listener is not None:
                self._listener.wakeup.set()

    def drain_nowait(self) -> list[tuple[int, bytes]]:
        """Return and forget what no listener has taken."""
        with self._lock:
            chunks = list(self._chunks)
            self._chunks.clear()
            self._size = 0
        return chunks

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_STREAM: Handler(self._stream, Cardinality.UNARY_STREAM, Empty, StdioData)}

    async def _stream(self, stream: Stream[Empty, StdioData]) -> None:
        await stream.recv_message()
        # The answer's headers tell the host that from now on what is printed goes this way.
        await stream.send_initial_metadata()
        listener = _Listener()
        with self._lock:
            if self._listener is not None:
                self._listener.replaced = True
                self._listener.wakeup.set()
            self._listener = listener
        try:
            while not listener.replaced:
                if (chunk := self._take()) is not None:
                    try:
                        await stream.send_message(StdioData(channel=chunk[0], data=chunk[1]))
                    except BaseException:
                        with self._lock:  # it has not left whole: the next listener gets it, or stderr
                            self._chunks.appendleft(chunk)
                            self._size += len(chunk[1])
                        raise
                elif self._closed:
                    return
                else:
                    self._report_dropped()
                    await listener.wakeup.wait()
        finally:
            with self._lock:
                if self._listener is listener:
                    self._listener = None

    def _report_dropped(self) -> None:
        if self.dropped > self._reported and self._on_dropped is not None:
            lost, self._reported = self.dropped - self._reported, self.dropped
            self._on_dropped(lost)

    def _take(self) -> tuple[int, bytes] | None:
        """Return the next chunk, joined with those of the same channel that follow it and still fit."""
        with self._lock:
            if not self._chunks:
                return None
            channel, data = self._chunks.popleft()
            parts = [data]
            size = len(data)
            while self._chunks and self._chunks[0][0] == channel and size + len(self._chunks[0][1]) <= CHUNK_LIMIT:
                parts.append(self._chunks.popleft()[1])
                size += len(parts[-1])
            self._size -= size
        return channel, b"".join(parts)


class _Listener:
    """The call that takes the chunks away, as the writers see it."""

    __slots__ = ("replaced", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.replaced = False


class StdioFollower:
    """The host's side: iterate over `(channel, data)` until the plugin ends the stream or goes away.

    The call is opened by the first step and closed when the iteration ends or is cancelled; use it as an asynchronous
    context manager to leave it early. A plugin without this service looks like one that prints nothing.
    """

    def __init__(self, channel: Channel) -> None:
        from supervisor.services.reception import Reception  # noqa: PLC0415  # the host's

        request = channel.request(_STREAM, Cardinality.UNARY_STREAM, Empty, StdioData)
        self._reception: Reception[StdioData] = Reception(request, "stdio")
        self._opened = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        """Return the next chunk.

        Raises:
            TransportError: the connection or the stream broke.
        """
        if not self._opened:
            self._opened = True
            await self._reception.open(Empty(), end=True)
        message = await self._reception.receive()
        if message is None:
            raise StopAsyncIteration
        return message.channel, message.data

    async def aclose(self) -> None:
        """Leave the stream; idempotent."""
        await self._reception.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def follow(channel: Channel) -> StdioFollower:
    """Return an iterator over what the plugin prints; see `StdioFollower`."""
    return StdioFollower(channel)
