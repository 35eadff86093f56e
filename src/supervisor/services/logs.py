"""`supervisor.logs.v1.Logs`: a plugin's log records on their way to the host, and the level on its way back."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from grpclib.const import Cardinality, Handler

from supervisor.errors import DecodeError
from supervisor.services.flat_messages import FollowRequest
from supervisor.services.log_encoding import RawBatch, encode_batch
from supervisor.services.wakeup import Wakeup

if TYPE_CHECKING:
    from grpclib.client import Channel
    from grpclib.server import Stream

    from supervisor.services.log_decoding import RecordBatch
    from supervisor.services.reception import Reception

__all__ = ["BATCH_BYTES", "BATCH_RECORDS", "LogBuffer", "LogFollower", "LogService", "follow"]

BATCH_RECORDS: Final = 256
BATCH_BYTES: Final = 128 * 1024
"""A batch is sent as soon as there is a record, and holds at most this."""

_FOLLOW = "/supervisor.logs.v1.Logs/Follow"


class LogBuffer:
    """Encoded records between the threads that log and the call that carries them away. Never blocks anybody.

    It takes records from `open` until `close_if_empty`. When it is full the oldest are dropped, since what a plugin
    said last is what explains its end; each of them is counted in `dropped`, and `reported` is how many of those the
    host knows of.
    """

    def __init__(self, *, max_records: int = 1 << 17, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.dropped = 0
        self.reported = 0
        self.is_open = False
        self._records: deque[bytes] = deque()
        self._size = 0
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._wakeup: Wakeup | None = None
        # Re-entrant: a finalizer or a signal handler may log while this thread is inside.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._records)

    def offer(self, record: bytes) -> bool:
        """Take a record from any thread; False when closed, and then it was not taken."""
        with self._lock:
            if not self.is_open:
                return False
            self._records.append(record)
            self._size += len(record)
            while self._size > self._max_bytes or len(self._records) > self._max_records:
                self._size -= len(self._records.popleft())
                self.dropped += 1
            if self._wakeup is not None:
                self._wakeup.set()
        return True

    def open(self, wakeup: Wakeup | None) -> None:
        """Take records from now on, and set `wakeup` when there are some."""
        with self._lock:
            self.is_open = True
            self._wakeup = wakeup

    def close_if_empty(self) -> bool:
        """Take nothing more if nothing is left; whether that is so."""
        with self._lock:
            if not self._records:
                self.is_open = False
            return not self.is_open

    def take(self) -> tuple[list[bytes], int]:
        """Remove and return the oldest records that make a batch, and how many were dropped before them."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._records and len(taken) < BATCH_RECORDS:
                if taken and size + len(self._records[0]) > BATCH_BYTES:
                    break
                taken.append(self._records.popleft())
                size += len(taken[-1])
            self._size -= size
            return taken, self.dropped

    def restore(self, records: list[bytes]) -> None:
        """Put back what `take` returned and nobody got."""
        with self._lock:
            self._records.extendleft(reversed(records))
            self._size += sum(map(len, records))


class LogService:
    """The plugin's side: sends what is in the buffer to the host that follows. The latest follower wins.

    Args:
        buffer: where the records are.
        on_level: told the level, as stdlib logging's number, that the host wants.
        on_unfollowed: told that nobody follows any more; what is in the buffer then is somebody else's to take.
    """

    def __init__(
        self, buffer: LogBuffer, *, on_level: Callable[[int], None], on_unfollowed: Callable[[], None]
    ) -> None:
        self._buffer = buffer
        self._on_level = on_level
        self._on_unfollowed = on_unfollowed
        self._follower: _Following | None = None
        self._closed = False

    @property
    def followed(self) -> bool:
        """Whether a host is following."""
        return self._follower is not None

    def close(self) -> None:
        """End the call after what is in the buffer, and refuse the next."""
        self._closed = True
        if self._follower is not None:
            self._follower.finish()

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_FOLLOW: Handler(self._follow, Cardinality.STREAM_STREAM, FollowRequest, RawBatch)}

    async def _follow(self, stream: Stream[FollowRequest, RawBatch]) -> None:
        first = await stream.recv_message()
        if first is None or self._closed:
            return
        self._on_level(first.level)
        # The answer's headers tell the host that from now on records go this way.
        await stream.send_initial_metadata()
        following = _Following()
        if self._follower is not None:
            self._follower.replaced = True
            self._follower.finish()
        self._follower = following
        self._buffer.open(following.wakeup)
        levels = asyncio.create_task(self._read_levels(stream, following), name="log levels")
        try:
            await self._send_batches(stream, following)
        finally:
            levels.cancel()
            if self._follower is following:
                self._follower = None
                self._buffer.open(None)
                self._on_unfollowed()

    async def _send_batches(self, stream: Stream[FollowRequest, RawBatch], following: _Following) -> None:
        while not following.replaced:
            records, dropped = self._buffer.take()
            if records:
                try:
                    await stream.send_message(encode_batch(records, dropped))
                except BaseException:
                    self._buffer.restore(records)
                    raise
                self._buffer.reported = dropped
                # A burst fills many batches without ever having to wait: let other calls be served between them.
                await asyncio.sleep(0)
            elif following.finishing:
                return
            else:
                await following.wakeup.wait()

    async def _read_levels(self, stream: Stream[FollowRequest, RawBatch], following: _Following) -> None:
        """Follow the level until the host ends its side, which means that it wants what there is and no more."""
        # A broken stream ends the handler as well, which is where it is told.
        with suppress(Exception):
            while (request := await stream.recv_message()) is not None:
                self._on_level(request.level)
        following.finish()


class _Following:
    """One host's call."""

    __slots__ = ("finishing", "replaced", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.finishing = False
        self.replaced = False

    def finish(self) -> None:
        """End the call when the buffer is empty."""
        self.finishing = True
        self.wakeup.set()


class LogFollower:
    """The host's side: iterate over batches until the plugin ends the stream or goes away.

    Use it as an asynchronous context manager. A plugin without this service looks like one that logs nothing.
    """

    def __init__(self, channel: Channel, *, level: int) -> None:
        from supervisor.services.reception import Reception  # noqa: PLC0415  # the host's

        request = channel.request(_FOLLOW, Cardinality.STREAM_STREAM, FollowRequest, RawBatch)
        self._reception: Reception[RawBatch] = Reception(request, "log")
        self._level = level
        self._sent = level
        self._sending: asyncio.Task[None] | None = None

    def set_level(self, level: int) -> None:
        """Ask for records from `level` on, stdlib logging's number. Returns at once; the last one asked for wins."""
        self._level = level
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_level(), name="log level")

    async def _send_level(self) -> None:
        # A broken stream shows where batches are received; here it would only be told twice.
        with suppress(Exception):
            while self._sent != self._level:
                self._sent = level = self._level
                await self._reception.send(FollowRequest(level=level))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordBatch:
        """Return the next batch.

        Raises:
            DecodeError: the plugin sent something that is not one.
            TransportError: the connection or the stream broke.
        """
        from supervisor.services.log_decoding import decode_batch  # noqa: PLC0415  # with records 3 ms, the host's

        batch = await self._reception.receive()
        if batch is None:
            raise StopAsyncIteration
        try:
            return decode_batch(batch)
        except DecodeError:
            await self._reception.aclose()
            raise

    async def aclose(self) -> None:
        """Leave the stream; idempotent, and suspends nowhere."""
        if self._sending is not None:
            self._sending.cancel()
        await self._reception.aclose()

    async def __aenter__(self) -> Self:
        await self._reception.open(FollowRequest(level=self._level), end=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def follow(channel: Channel, *, level: int) -> LogFollower:
    """Return a follower of the plugin's log records from `level` on, stdlib logging's number."""
    return LogFollower(channel, level=level)
