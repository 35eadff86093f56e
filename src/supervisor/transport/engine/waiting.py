"""A stream that tasks wait on. Nothing is ever cancelled to end a wait: its end is news like any other (see `scope`)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from supervisor.transport.codec import Pieces
from supervisor.transport.engine import frames
from supervisor.transport.engine.stream import PREFIX, MakeError, Stream

if TYPE_CHECKING:
    from supervisor.transport.engine.protocol import EngineProtocol

__all__ = ["TURN", "WaitingStream", "new_task"]

TURN: Final = 32
"""Messages in a row that a stream may take or give without waiting, before others get a turn of the loop."""


class WaitingStream(Stream):
    """A stream of a connection that asyncio drives.

    Attributes:
        wire: the connection's asyncio side.
    """

    _waiters: tuple[asyncio.Future[None], ...] = ()
    _straight = 0  # messages in a row that did not have to be waited for

    def __init__(self, wire: EngineProtocol, *, many: bool) -> None:
        Stream.__init__(self, wire.connection, many=many)
        self.wire = wire

    @property
    def awaited(self) -> bool:
        """Whether a task waits for news of it."""
        return bool(self._waiters)

    def wake(self) -> None:
        """Let every waiter look again."""
        waiters = self._waiters
        if waiters:
            self._waiters = ()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for news. Whoever waits looks what it is; a waiter that is cancelled leaves nothing behind."""
        self._straight = 0
        waiter: asyncio.Future[None] = self.wire.loop.create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        except BaseException:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)
            raise

    def send_now(self, head: bytes, data: bytes | Pieces, *, compressed: int = 0, end: bool = False) -> bool:
        """Write a message, behind `head`, if the peer takes it in one frame and the socket takes it now; return whether."""
        wire, connection = self.wire, self.connection
        length = len(data)
        size = length + PREFIX
        if (
            size > connection.send_window
            or size > self.send_window
            or size > connection.peer_frame_size
            or not wire.writable
        ):
            return False
        connection.send_window -= size
        self.send_window -= size
        head += frames.message_head(self.id, length, compressed=compressed, end=end)
        wire.write_message(head, data)
        return True

    def turn_is_over(self) -> bool:
        """Count a message that did not have to be waited for; whether it is time to give up the loop to others.

        A stream that never has to wait would keep the loop to itself.
        """
        self._straight += 1
        if self._straight < TURN:
            return False
        self._straight = 0
        return True

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise self.failure()

    def over(self) -> bool:
        """Whether what is still to be sent is of no use to the peer."""
        return False

    def lose(self, make_error: MakeError, *, abrupt: bool) -> None:
        """End because the connection has ended, or will without having looked at this stream."""
        self.closed = True
        self.end_with(make_error, abrupt=abrupt)


def new_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Return a task as `loop.create_task` makes it, without what that does besides where nobody has changed it."""
    if loop.get_task_factory() is None:
        return asyncio.Task(coroutine, loop=loop, name=name)
    return loop.create_task(coroutine, name=name)
