"""One call as its handler sees it: grpclib's server stream, from the request's headers to the status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import DecodeError, MessageTooLargeError, ProtocolViolationError, SupervisorError
from supervisor.transport.codec import Pieces
from supervisor.transport.engine.compression import UnknownEncodingError, unpack
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.metadata import decode_metadata
from supervisor.transport.engine.peer import Peer
from supervisor.transport.engine.replying import ReplySide
from supervisor.transport.engine.stream import ENDED, PREFIX, MakeError
from supervisor.transport.incoming import IncomingCall, set_current_call
from supervisor.transport.refused_size import LIMIT_KEY, SIZE_KEY, refusal_of
from supervisor.transport.under_way import STOPPING

if TYPE_CHECKING:
    from grpclib.metadata import Deadline, _Metadata

__all__ = ["ServedCall"]


class ServedCall(ReplySide):
    """One call that this side serves."""

    _cut = False  # its handler was cancelled: once, so that it may clean up

    @property
    def metadata(self) -> _Metadata | None:
        """The caller's headers; values of keys that end in `-bin` are bytes."""
        if self._metadata is None:
            assert self.headers is not None
            self._metadata = decode_metadata(self.headers.fields)
        return self._metadata

    @metadata.setter
    def metadata(self, value: _Metadata) -> None:
        self._metadata = value

    @property
    def deadline(self) -> Deadline | None:
        """The point in time at which the handler is cancelled, when the caller set one."""
        if self._deadline is None and self._expires_at is not None:
            from grpclib.metadata import Deadline  # noqa: PLC0415 - with multidict 6 ms, and few calls need it

            self._deadline = Deadline.from_timeout(self._expires_at - self.wire.loop.time())
        return self._deadline

    @property
    def user_agent(self) -> str | None:
        """How the caller's library calls itself."""
        return self.request.user_agent

    @property
    def peer(self) -> Any:
        """The connection's other end."""
        return Peer(self.wire.transport)

    def incoming(self) -> IncomingCall:
        """Return what `current_call` tells."""
        assert self.metadata is not None
        return IncomingCall(self.request.path, self.metadata, self.peer, self.deadline, self)

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def recv_message(self) -> Any:
        """Wait for the next request message; None when the client has sent all.

        Raises:
            GRPCError: the message is too large, compressed as was not offered, or not one; the call ends with that.
        """
        if self.method.cardinality.client_streaming and self.turn_is_over():
            await asyncio.sleep(0)  # before a message is taken: a receive that is cancelled loses none
        messages = self.messages
        while not messages:
            if self.fault is not None:
                raise refusal_of(self.fault())
            if self.phase == ENDED:
                if self.in_message:
                    raise GRPCError(Status.INTERNAL, "the request ended within a message")
                return None
            self.check()
            self.read_on()
            await self.wait()
        data = messages[0]
        del messages[0]
        if self.method.cardinality.client_streaming:
            self.release(len(data) + PREFIX)
        message = self._decode(data)
        if self._dispatch is not None:
            (message,) = await self._dispatch.recv_message(message)
        return message

    def _decode(self, data: bytes) -> Any:
        service, message_type = self.wire.service, self.method.request_type
        try:
            if type(data) is not bytes:
                data = unpack(data, self.request.encoding, service.message_size)
            return service.codec.decode(data, message_type)
        except MessageTooLargeError as error:
            raise refusal_of(error) from error
        except UnknownEncodingError as error:
            raise GRPCError(Status.UNIMPLEMENTED, str(error)) from error
        except (DecodeError, ProtocolViolationError) as error:
            raise GRPCError(Status.INTERNAL, str(error)) from error
        except Exception as error:
            raise GRPCError(Status.INTERNAL, f"the bytes received are not a {message_type.__name__}") from error

    def __aiter__(self) -> ServedCall:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    # --- running the handler -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Start the handler when a unary request is whole; else let those who wait look."""
        if self.task is None:
            if self.started:
                return
            if self.phase == ENDED or self.fault is not None or self.method.cardinality.client_streaming:
                self.wire.start(self)
        elif self._waiters:
            super().wake()

    def limit_time(self, timeout: float) -> None:
        """Cancel the handler after `timeout` seconds."""
        self._expires_at = self.wire.now + timeout
        self._slice = self.wire.deadlines.add(self, self._expires_at)

    def expire(self) -> None:
        """Cancel the handler: the caller's deadline has passed."""
        self._expired = True
        if self.task is None:
            self.refuse(Status.DEADLINE_EXCEEDED, "the deadline passed")
        self._cancel_task()

    def end_with(self, make_error: MakeError, *, abrupt: bool = False) -> None:
        """Cancel the handler: the client is gone."""
        super().end_with(make_error, abrupt=abrupt)
        self._cancel_task()

    async def run(self) -> None:
        """Answer the call; never raises but when it is cancelled."""
        self._begun = True
        try:
            set_current_call(self)
            await self._conclude(self._call_handler())
        finally:
            self._finish()

    async def run_direct(self, method: Callable[[Any], Awaitable[Any]], data: bytes) -> None:
        """Answer a unary call whose generated handler would only pass the message in `data` on to `method`."""
        self._begun = True
        wire, request = self.wire, self.request
        codec = wire.service.codec
        try:
            set_current_call(self)
            try:
                message = codec.decode(data, request.method.request_type)
            except Exception:  # noqa: BLE001 - the long way fails in the same way, and says how
                await self._conclude(self._call_handler())
                return
            try:
                reply = self._encode(await method(message))
            except BaseException as error:  # noqa: BLE001 - as `_conclude` does for any other handler
                await self._conclude(_raising(error))
                return
            self._messages_sent = 1
            if self._expired or self.failure is not None or self._trailers_sent or not self._send_whole(reply):
                self._held = reply
                await self._conclude(_nothing())
        finally:
            if self._trailers_sent and self.phase == ENDED:
                if self._expires_at is not None:
                    self._slice.pop(self, None)
                wire.done(self)
            else:
                self._finish()

    async def _call_handler(self) -> None:
        func: Callable[[Any], Awaitable[None]] = self.method.func
        if self._dispatch is not None:
            self.metadata, func = await self._dispatch.recv_request(
                self.metadata, func, method_name=self.request.path, deadline=self.deadline,
                content_type="application/grpc", user_agent=self.user_agent, peer=self.peer,
            )  # fmt: skip
        await func(self)

    async def _conclude(self, handler: Coroutine[Any, Any, None]) -> None:
        """Run what handles the call and answer with the status that follows from how it ends."""
        error: BaseException | None = None
        try:
            try:
                await handler
            except GRPCError as status:
                error = status
            except Exception as other:  # noqa: BLE001 - whatever a handler raises becomes a status
                error = other
            if not self._expired and self.failure is None:  # else nobody waits for it
                await self._answer(error)
        except asyncio.CancelledError:
            if not self._expired:
                raise
        except Exception as problem:  # noqa: BLE001 - a listener's, or a status that cannot be sent
            self._give_up(problem)
        finally:
            error = None  # its traceback holds this frame
        if self._expired:
            self.refuse(Status.DEADLINE_EXCEEDED, "the deadline passed")

    async def _answer(self, error: BaseException | None) -> None:
        if self._trailers_sent or self._cancelled:
            return
        service = self.wire.service
        if error is None and not self.method.cardinality.server_streaming and not self._messages_sent:
            error = ProtocolViolationError("the handler of a unary response sent none")
        if error is None and self._dispatch is None and self._held is not None:
            held, self._held = self._held, None
            await self._reply(held)
            return
        if error is not None and not isinstance(error, GRPCError):
            with suppress(Exception):
                service.on_error(self.request.path, error)
            error = GRPCError(Status.UNKNOWN, "Internal Server Error")
        metadata = None
        if error is not None and isinstance(cause := error.__cause__, MessageTooLargeError):
            metadata = {SIZE_KEY: str(cause.size), LIMIT_KEY: str(cause.limit)}
        try:
            await self.send_trailing_metadata(
                status=Status.OK if error is None else error.status,
                status_message=None if error is None else error.message,
                status_details=None if error is None else error.details,
                metadata=metadata,
            )
        except SupervisorError as problem:
            self._give_up(problem)

    async def _reply(self, data: bytes | Pieces) -> None:
        try:
            await self._send_reply(data, b"")
        except SupervisorError as problem:
            self._give_up(problem)

    def _give_up(self, problem: Exception) -> None:
        """Answer a call whose answer could not be sent, unless that is because nobody waits for it."""
        if self.failure is None:
            with suppress(Exception):
                self.wire.service.on_error(self.request.path, problem)
            self.refuse(Status.UNKNOWN, "Internal Server Error")

    def cut(self) -> None:
        """Answer at once and cancel the handler: the server stops."""
        self.refuse(Status.UNAVAILABLE, STOPPING)
        self._cancel_task()

    def _cancel_task(self) -> None:
        """Have the handler end; one that never began ends here."""
        if self.task is None:
            self._finish()
            return
        if not self._begun:  # a task that is cancelled before its first step never enters `run`
            self._begun = True
            self.task.add_done_callback(lambda _: self._finish())
        if not self._cut:
            self._cut = True
            self.task.cancel()

    def _finish(self) -> None:
        """Give back what the call holds when its handler has ended; the client is told to stop if it still sends."""
        if self._expires_at is not None:
            self._slice.pop(self, None)
        if not self._trailers_sent and not self.closed:
            self.refuse(Status.CANCELLED, "the call was cancelled by the server")
        else:
            self.connection.reset(self, ErrorCode.NO_ERROR)
            self.wire.release(self)
        self.wire.done(self)


async def _raising(error: BaseException) -> None:
    """Raise what a handler has raised, where it becomes a status."""
    try:
        raise error
    finally:
        del error  # its traceback holds this frame


async def _nothing() -> None:
    """Do as a handler does that has done its work."""
