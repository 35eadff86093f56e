"""One call as its caller sees it: grpclib's stream, with typed errors, a limit on messages and bounded waits."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import _Metadata
from multidict import MultiDict

from supervisor.errors import (
    DeadlineExceededError,
    ProtocolViolationError,
    SupervisorError,
    TransportError,
)
from supervisor.transport.engine.asking import RecvT, RequestSide, SendT
from supervisor.transport.engine.compression import unpack
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.metadata import decode_metadata
from supervisor.transport.engine.response import ResponseEnd, read_end, read_head
from supervisor.transport.engine.stream import ENDED, PREFIX
from supervisor.transport.refused_size import too_large_from_status

__all__ = ["Call", "passed_before"]

_STATUS_RACE = 0.05
"""Seconds around a deadline within which the peer's DEADLINE_EXCEEDED is this side's own deadline seen from there."""


class Call(RequestSide[SendT, RecvT]):
    """One call. `async with channel.request(...) as call:`; to be used once.

    Its methods raise `SupervisorError`, `GRPCError`, `CancelledError`, and nothing foreign. They may be called from
    several tasks. When the context exits, the peer is told that nobody waits any more.
    """

    @property
    def peer(self) -> Any:
        """The connection's other end; None until the request was sent."""
        return self._channel.peer if self._requested else None

    @property
    def initial_metadata(self) -> _Metadata | None:
        """What came with the response's headers; None until they were received."""
        if self._initial is None and self._head_read and self.headers is not None:
            only = self.headers.view.only
            self._initial = MultiDict() if only else decode_metadata(self.headers.fields)  # type: ignore[assignment]
        return self._initial

    @property
    def trailing_metadata(self) -> _Metadata | None:
        """What came with the response's status; None until that was received."""
        if self._trailing is None and self._trailing_read and self.trailers is not None:
            self._trailing = decode_metadata(self.trailers.fields)
        return self._trailing

    async def __aenter__(self) -> Call[SendT, RecvT]:
        """Enter the call.

        Raises:
            DeadlineExceededError: the deadline has passed already.
        """
        at = self._expires_at
        if at is not None:
            if at <= self.wire.loop.time():
                raise passed_before()
            self._slice = self.wire.deadlines.add(self, at)
        self._channel.enter(self)
        return self

    def expire(self) -> None:
        """End the call: its deadline has passed."""
        self.end_with(_deadline_passed, abrupt=True)

    def is_late(self) -> bool:
        """Whether its deadline has passed, or the peer, whose clock is another, may find that it has."""
        at = self._expires_at
        return at is not None and at - self.wire.loop.time() <= _STATUS_RACE

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def recv_initial_metadata(self) -> None:
        """Wait for the response's headers.

        Raises:
            GRPCError: they are all of the response, and the status is not OK.
        """
        if self._head_read:
            raise ProtocolViolationError("the headers were received already")
        await self._read_head()

    async def _read_head(self) -> None:
        if not self._requested:
            raise ProtocolViolationError("the request was not sent")
        while self.headers is None:
            self.check()
            await self.wait()
        if self.abrupt:
            self.check()
        head = read_head(self.headers, self._channel.subtype)
        self._head_read = True
        if head.problem is not None:
            self._told = True
            raise head.problem()
        self._encoding = head.encoding
        if self._dispatch is not None:
            (self._initial,) = await self._dispatch.recv_initial_metadata(self.initial_metadata)
        if head.only:
            self.trailers = self.headers
            await self._read_end()
            self._check_count(surplus=False)

    async def recv_message(self) -> RecvT | None:
        """Wait for the next message; None at the end of the response."""
        if self._cardinality.server_streaming and self.turn_is_over():
            await asyncio.sleep(0)  # before a message is taken: a receive that is cancelled loses none
        messages = self.messages
        if not messages:
            await self._next_message()
        if not self._head_read:
            await self._read_head()
        if self.abrupt:
            self.check()
        if not messages:
            return None
        data = messages[0]
        del messages[0]
        if self._cardinality.server_streaming:
            self.release(len(data) + PREFIX)
        message = self._decode(data)
        if self._dispatch is not None:
            (message,) = await self._dispatch.recv_message(message)
        self._received += 1
        return message  # type: ignore[no-any-return] # it is what the codec made for this type

    async def _next_message(self) -> None:
        """Wait for a message, or for the end of the response."""
        if not self._requested:
            raise ProtocolViolationError("the request was not sent")
        while not self.messages:
            if self.headers is not None and not self._head_read:
                await self._read_head()
            if self.fault is not None:
                self._told = True
                raise self.fault()
            if self.phase == ENDED:
                if self.in_message:
                    self._told = True
                    raise ProtocolViolationError("the response ended within a message")
                return
            self.check()
            self.read_on()
            await self.wait()

    def _decode(self, data: bytes) -> Any:
        try:
            if type(data) is not bytes:
                data = unpack(data, self._encoding, self._channel.limits.message_size)
            return self._channel.decode(data, self._recv_type)
        except SupervisorError:
            self._told = True
            raise

    async def recv_trailing_metadata(self) -> None:
        """Wait for the status; messages that were not read are dropped.

        Raises:
            GRPCError: the status is not OK.
            ProtocolViolationError: the response to a unary request has no message or several.
        """
        if self._trailing_read:
            raise ProtocolViolationError("the status was received already")
        if not self._head_read:
            await self._read_head()
        surplus = False
        while self.messages or self.phase != ENDED:
            if self.messages:
                surplus = True
                self.release(sum(len(data) + PREFIX for data in self.messages))
                self.messages.clear()
                continue
            self.check()
            self.read_on()
            await self.wait()
        if self.abrupt:
            self.check()
        # The peer has said all it will: an outgoing side that is still open is of no use.
        self._ended = True
        await self._read_end()
        self._check_count(surplus=surplus or self.in_message or self.fault is not None)

    def _check_count(self, *, surplus: bool) -> None:
        """Raise when a unary request was answered OK with no message, or with several."""
        if not self._cardinality.server_streaming and (surplus or self._received != 1):
            many = "more than one message" if self._received else "no message that was read"
            self._told = True
            raise ProtocolViolationError(f"{self._method} was answered OK with {many}")

    async def _read_end(self) -> None:
        self._trailing_read = True
        if self._dispatch is not None and self.trailers is not None:
            end = read_end(self.trailers)
            (self._trailing,) = await self._dispatch.recv_trailing_metadata(
                self.trailing_metadata,
                status=end.status or Status.UNKNOWN, status_message=end.message, status_details=self._details(end),
            )  # fmt: skip
        self._raise_status()

    def _raise_status(self) -> None:
        """Raise when the response has ended and its status is not OK."""
        if self.trailers is None:
            self._told = True
            raise ProtocolViolationError("the response ended without a status")
        end = read_end(self.trailers)
        if end.ok:
            return
        self._told = True
        self._trailing_read = True
        if end.problem is not None:
            raise end.problem()
        assert end.status is not None
        error = GRPCError(end.status, end.message, self._details(end))
        if end.status is Status.DEADLINE_EXCEEDED and self.is_late():
            raise DeadlineExceededError("the call's deadline passed") from error
        typed = too_large_from_status(error, self.trailing_metadata)
        try:
            if typed is not None:
                raise typed from error
            raise error
        finally:
            del error, typed  # their tracebacks hold this frame

    def _details(self, end: ResponseEnd) -> Any:
        if end.details is None or end.status is None or end.status is Status.OK:
            return None
        return self._channel.decode_details(end.status, end.message, end.details)

    def __aiter__(self) -> Call[SendT, RecvT]:
        return self

    async def __anext__(self) -> RecvT:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    # --- leaving -----------------------------------------------------------------------------------------------------

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            if not self._requested or self._cancelled:
                return
            if exc_val is None:
                if not self._trailing_read and not self._told:
                    await self.recv_trailing_metadata()
            elif isinstance(exc_val, TransportError) and not isinstance(exc_val, DeadlineExceededError):
                self._raise_known_status(exc_val)
        finally:
            self._leave()

    def _raise_known_status(self, error: TransportError) -> None:
        """Raise the status instead of `error` when the peer gave one before it went away."""
        if self.trailers is not None and read_end(self.trailers).problem is None:
            try:
                self._raise_status()
            except GRPCError as status:
                raise status from error

    def _leave(self) -> None:
        if self._expires_at is not None:
            self._slice.pop(self, None)
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()
        if self._requested:
            if self.phase != ENDED or not self.sent_end:
                self.connection.reset(self, ErrorCode.CANCEL)
            self.wire.release(self)
        # Whoever still uses the call, such as the sending task of a stub, finds it closed.
        if not self.abrupt:
            self.failure, self.abrupt = _is_over, True
        if self._waiters:
            self.wake()
        self._channel.leave(self)


def _deadline_passed() -> DeadlineExceededError:
    return DeadlineExceededError("the call's deadline passed")


def passed_before() -> DeadlineExceededError:
    """Return the error for a call that was made too late."""
    return DeadlineExceededError("the call's deadline passed before it began")


def _is_over() -> ProtocolViolationError:
    return ProtocolViolationError("the call is over")
