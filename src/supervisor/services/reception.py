"""The receiving end of a call that stays open for as long as the plugin lives."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Generic, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import TransportError

__all__ = ["Reception"]

# What a host takes for the end of a stream: the plugin went away, or never had the service.
_NORMAL_ENDS = frozenset({Status.UNAVAILABLE, Status.CANCELLED, Status.UNIMPLEMENTED})

MessageT = TypeVar("MessageT")


class Reception(Generic[MessageT]):
    """Opens a call, receives until the plugin ends it, and leaves it whatever happens.

    It is an object and not an async generator, so nothing is left to the garbage collector's task. One reader at a
    time; `open`, `receive` and `aclose` belong to one task.

    Args:
        request: what grpclib's `channel.request` returned.
        what: the stream's name in messages.
    """

    def __init__(self, request: Any, what: str) -> None:
        self._request = request
        self._what = what
        self._stream: Any = None
        self.ended = False

    async def open(self, first: object, *, end: bool) -> None:
        """Send the first message; with `end` it is also the last.

        Raises:
            TransportError: there is no connection.
        """
        try:
            self._stream = await self._request.__aenter__()
            await self._stream.send_message(first, end=end)
        except BaseException:
            await self._leave_failed()
            raise

    async def send(self, message: object) -> None:
        """Send another message; the stream's failure shows where it is received, so here it is silent."""
        if not self.ended:
            await self._stream.send_message(message)

    async def receive(self) -> MessageT | None:
        """Return the next message, None when the plugin ended the stream or does not have it.

        Raises:
            TransportError: the connection broke, or the stream ended with an error.
        """
        if self.ended:
            return None
        try:
            return await self._receive()
        except GRPCError as error:
            if error.status in _NORMAL_ENDS:
                return None
            raise TransportError(f"the {self._what} stream ended with {error.status.name}: {error.message}") from error

    async def _receive(self) -> MessageT | None:
        try:
            message: MessageT | None = await self._stream.recv_message()
            if message is None:
                self.ended = True
                await self._request.__aexit__(None, None, None)
        except BaseException:
            # This may raise the status that the plugin gave before the connection broke, which says more.
            await self._leave_failed()
            raise
        return message

    async def aclose(self) -> None:
        """Leave the stream, telling the plugin so; idempotent, and suspends nowhere."""
        if not self.ended and self._stream is not None:
            # Told of a cancellation grpclib resets the stream; told of nothing it waits for a trailer that never comes.
            left = asyncio.CancelledError()
            self.ended = True
            await self._request.__aexit__(type(left), left, None)
        self.ended = True

    async def _leave_failed(self) -> None:
        """Leave on the way out of an exception; suspends nowhere."""
        if not self.ended and self._stream is not None:
            self.ended = True
            await self._request.__aexit__(*sys.exc_info())
        self.ended = True
