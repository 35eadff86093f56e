"""One call as its caller sees it: grpclib's stream, with typed errors, a limit on messages and bounded waits."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpclib.client
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.exceptions import GRPCError
from grpclib.metadata import USER_AGENT, Deadline, encode_metadata
from h2.errors import ErrorCodes
from multidict import MultiDict

from supervisor.errors import ConfigurationError, DeadlineExceededError, ProtocolViolationError, TransportError
from supervisor.transport.framing import read_message, write_message
from supervisor.transport.refused_size import too_large_from_status
from supervisor.transport.scope import CallScope
from supervisor.transport.stream import Headers, WireStream
from supervisor.transport.translate import Translator

if TYPE_CHECKING:
    from supervisor.transport.channel import Channel

__all__ = ["Call"]

_SendT = TypeVar("_SendT")
_RecvT = TypeVar("_RecvT")

_MOST_MILLISECONDS = 99_999_999
"""`grpc-timeout` has at most eight digits."""

_STATUS_RACE = 0.05
"""Seconds around a deadline within which the peer's DEADLINE_EXCEEDED is this side's own deadline seen from there."""


class Call(grpclib.client.Stream[_SendT, _RecvT]):
    """One call. `async with channel.request(...) as call:`; to be used once.

    Its methods raise what `translate` says: `SupervisorError`, `GRPCError`, `CancelledError`, and nothing foreign. They
    may be called from several tasks. When the context exits, the peer is told that nobody waits any more.
    """

    _channel: Channel
    _stream: WireStream
    _timer: asyncio.TimerHandle | None = None
    _wire: WireStream | None = None
    _sender: asyncio.Task[Any] | None = None

    def __init__(self, channel: Channel, *args: Any, **options: Any) -> None:
        super().__init__(channel, *args, **options)
        self._wrapper: CallScope = CallScope()
        self._translated = Translator(lambda: self.maybe_executed)

    @property
    def maybe_executed(self) -> bool:
        """Whether the request may have reached the peer: False until its headers were written to the socket."""
        return self._wire is not None and self._wire.maybe_executed

    async def __aenter__(self) -> Call[_SendT, _RecvT]:
        """Enter the call; its deadline counts from here.

        Raises:
            DeadlineExceededError: the deadline has passed already.
        """
        if self._deadline is not None:
            remaining = self._deadline.time_remaining()
            if remaining <= 0:
                raise DeadlineExceededError("the call's deadline passed before it began")
            self._timer = asyncio.get_running_loop().call_later(remaining, self._pass_deadline)
        self._channel.enter(self)
        return self

    def _pass_deadline(self) -> None:
        self._wrapper.fail(lambda: DeadlineExceededError("the call's deadline passed"), abrupt=True)

    async def send_request(self, *, end: bool = False) -> None:
        """Send the request's headers, after the calls that queued before this one."""
        if self._send_request_done:
            raise ProtocolViolationError("the request was sent already")
        if end and not self._cardinality.client_streaming:
            raise ProtocolViolationError("a unary request cannot end before its message")
        with self._translated, self._wrapper:
            protocol = await self._channel.__connect__()
            self._wire = wire = protocol.connection.create_stream(wrapper=self._wrapper)
            headers = await self._request_headers()
            self._release_stream = await wire.send_request(headers, end_stream=end, _processor=protocol.processor)
        self._stream = wire
        self.peer = wire.connection.get_peer()
        self._send_request_done = True
        self._end_done = end

    async def _request_headers(self) -> Headers:
        subtype = self._codec.__content_subtype__
        # googleapis' servers refuse `application/grpc+proto`.
        content_type = GRPC_CONTENT_TYPE if subtype == "proto" else f"{GRPC_CONTENT_TYPE}+{subtype}"
        (metadata,) = await self._dispatch.send_request(
            self._metadata, method_name=self._method_name, deadline=self._deadline, content_type=content_type
        )
        try:
            extra = encode_metadata(metadata)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"bad metadata: {error}") from error
        headers = [
            (":method", "POST"),
            (":scheme", self._channel._scheme),  # noqa: SLF001 - grpclib's channel and stream are one unit
            (":path", self._method_name),
            (":authority", self._channel._authority),  # noqa: SLF001
            ("te", "trailers"),
            ("content-type", content_type),
            ("user-agent", USER_AGENT),
        ]
        if self._deadline is not None:
            headers.insert(4, ("grpc-timeout", _encode_timeout(self._deadline)))
        return [*headers, *cast("Headers", extra)]

    async def send_message(self, message: _SendT, *, end: bool = False) -> None:
        """Send a message; dropped when the peer has already answered OK.

        Raises:
            GRPCError: the peer has already answered with another status.
            MessageTooLargeError: the message is over the limit; nothing of it was sent.
        """
        if not self._send_request_done:
            await self.send_request()
        unary = not self._cardinality.client_streaming
        if self._end_done or (unary and self._send_message_done):
            raise ProtocolViolationError("the request has ended already")
        self._watch_stub_sender()
        with self._translated, self._wrapper:
            if self._stream.answered:
                self._maybe_raise()
                await asyncio.sleep(0)  # a sender that never ends must not keep the loop to itself
            (message,) = await self._dispatch.send_message(message)
            await write_message(
                self._stream, self._codec, message, self._send_type, self._channel.limits.message_size,
                end=end or unary,
            )  # fmt: skip
        self._send_message_done = True
        self._end_done = end

    def _watch_stub_sender(self) -> None:
        """Take responsibility for the task in which betterproto's bidirectional stub sends its requests.

        The stub neither ends it when the server finishes first nor notices when the caller's iterator raises.
        """
        if self._sender is None and self._cardinality is Cardinality.STREAM_STREAM:
            task = asyncio.current_task()
            if task is not None and getattr(task.get_coro(), "__name__", "") == "_send_messages":
                self._sender = task
                task.add_done_callback(self._stub_sender_done)

    def _stub_sender_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and isinstance(error, Exception):
            self.fail(error)

    async def end(self) -> None:
        """End the request."""
        if not self._send_request_done:
            raise ProtocolViolationError("the request was not sent")
        if self._end_done:
            raise ProtocolViolationError("the request has ended already")
        if self._cardinality.client_streaming:
            with self._translated, self._wrapper:
                await self._stream.end()
        elif not self._send_message_done:
            raise ProtocolViolationError("a unary request cannot end before its message")
        self._end_done = True

    async def recv_initial_metadata(self) -> None:
        """Wait for the response's headers."""
        with self._translated:
            await super().recv_initial_metadata()

    async def recv_message(self) -> _RecvT | None:
        """Wait for the next message; None at the end of the response."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._translated, self._wrapper:
            message = await read_message(self._stream, self._codec, self._recv_type, self._channel.limits.message_size)
            if message is None:
                return None
            (message,) = await self._dispatch.recv_message(message)
        self._messages_received += 1
        return cast("_RecvT", message)

    async def recv_trailing_metadata(self) -> None:
        """Wait for the status; messages that were not read are dropped.

        Raises:
            GRPCError: the status is not OK.
            ProtocolViolationError: the response to a unary request has no message or several.
        """
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        if self._recv_trailing_metadata_done:
            raise ProtocolViolationError("the status was received already")
        with self._translated:
            surplus = False
            if not self._trailers_only:
                with self._wrapper:
                    surplus = await self._stream.discard_data()
            # The peer has said all it will: an outgoing side that is still open is of no use, which grpclib refuses.
            self._end_done = True
            await super().recv_trailing_metadata()
        if not self._cardinality.server_streaming and (surplus or not self._messages_received):
            many = "more than one message" if self._messages_received else "no message that was read"
            raise ProtocolViolationError(f"{self._method_name} was answered OK with {many}")

    def fail(self, error: Exception) -> None:
        """End the call: whoever waits for its response gets `error`. For the task that sends its requests."""
        self._translated.untouched = error
        self._wrapper.fail(lambda: error, abrupt=True)

    async def cancel(self) -> None:
        """Tell the peer that nobody waits any more."""
        if not self._send_request_done:
            raise ProtocolViolationError("the request was not sent")
        if self._cancel_done:
            raise ProtocolViolationError("the call was cancelled already")
        self._stream.reset_nowait(ErrorCodes.CANCEL)
        self._cancel_done = True

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            if not self._send_request_done or self._cancel_done:
                return
            if exc_val is None:
                if not self._recv_trailing_metadata_done and not self._translated.ended:
                    await self.recv_trailing_metadata()
            elif isinstance(exc_val, TransportError) and not isinstance(exc_val, DeadlineExceededError):
                self._raise_known_status(exc_val)
        finally:
            self._leave()

    def _raise_known_status(self, error: TransportError) -> None:
        """Raise the status instead of `error` when the peer gave one before it went away."""
        try:
            with self._translated:
                self._maybe_raise()
        except GRPCError as status:
            raise status from error

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()
        if self._wire is not None and self._send_request_done:
            if self._stream.closable:
                self._stream.reset_nowait(ErrorCodes.CANCEL)
            self._release_stream()
        # Whoever still uses the call, such as the sending task of a stub, finds it closed.
        self._wrapper.fail(lambda: ProtocolViolationError("the call is over"), abrupt=True)
        self._channel.leave(self)

    def _raise_for_status(self, headers_map: dict[str, str]) -> None:
        if ":status" not in headers_map:
            raise ProtocolViolationError("the response has no HTTP status")
        if "grpc-status" not in headers_map:  # else that one says more
            super()._raise_for_status(headers_map)

    def _raise_for_content_type(self, headers_map: dict[str, str]) -> None:
        if "content-type" not in headers_map:
            # grpclib's own server leaves it out of its refusals, of an unknown method for example.
            if "grpc-status" not in headers_map:
                raise ProtocolViolationError("the response has neither a content-type nor a status")
            return
        try:
            super()._raise_for_content_type(headers_map)
        except GRPCError as error:
            raise ProtocolViolationError(f"the response is not gRPC: {error.message}") from error

    def _process_grpc_status(self, headers_map: dict[str, str]) -> tuple[Status, str | None, Any]:
        if "grpc-status" not in headers_map:
            raise ProtocolViolationError("the response ended without a status")
        if "grpc-message" in headers_map:
            # Some servers send UTF-8 where it should be percent-encoded; headers were decoded as Latin-1.
            message = headers_map["grpc-message"].encode("latin-1").decode("utf-8", "replace")
            headers_map = {**headers_map, "grpc-message": message}
        try:
            return super()._process_grpc_status(headers_map)
        except (ValueError, UnicodeError) as error:
            raise ProtocolViolationError(f"the status cannot be read: {error}") from error

    def _raise_for_grpc_status(self, status: Status, message: str | None, details: Any) -> None:
        try:
            super()._raise_for_grpc_status(status, message, details)
        except GRPCError as error:
            deadline = self._deadline
            if status is Status.DEADLINE_EXCEEDED and deadline and deadline.time_remaining() <= _STATUS_RACE:
                raise DeadlineExceededError("the call's deadline passed") from error
            typed = too_large_from_status(error, cast("MultiDict[str | bytes] | None", self.trailing_metadata))
            if typed is not None:
                raise typed from error
            raise


def _encode_timeout(deadline: Deadline) -> str:
    """Return a `grpc-timeout` that is not shorter than what remains: this side's clock decides."""
    milliseconds = math.ceil(deadline.time_remaining() * 1000)
    if milliseconds <= _MOST_MILLISECONDS:
        return f"{milliseconds}m"
    return f"{min(math.ceil(milliseconds / 1000), _MOST_MILLISECONDS)}S"
