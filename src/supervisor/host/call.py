"""What a stub holds instead of a connection: calls that find the plugin's current life, and say what became of them."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from threading import get_ident
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

import anyio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline
from grpclib.stream import StreamIterator

from supervisor.errors import (
    CallResetError,
    ConnectionLostError,
    DeadlineExceededError,
    PluginCrashedError,
    PluginUnavailableError,
    SupervisorError,
)
from supervisor.host.instance import Instance
from supervisor.host.keeper import Keeper
from supervisor.transport.call import Call

__all__ = ["UNSET", "PluginChannel", "Unset"]

_ReplyT = TypeVar("_ReplyT")


class Unset:
    """The type of `UNSET`: a timeout that nobody gave, which is not the same as None."""


UNSET: Final = Unset()

_EXIT_AFTER_LOSS: Final = 1.0
"""Seconds in which the kernel confirms a death that a broken connection announced."""

_MAYBE_DEATH: Final = frozenset({Status.UNAVAILABLE, Status.CANCELLED, Status.INTERNAL, Status.UNKNOWN})
"""Statuses that a dying peer sends; any other was given by the application's own code."""


class PluginChannel:
    """A channel in the shape that generated stubs expect, valid across restarts.

    Each call waits for the plugin to be ready, bounded by its own deadline or `ready_timeout`, runs on the connection
    of the life that it found, and fails with that life.
    """

    def __init__(self, keeper: Keeper, *, timeout: float | Unset | None = UNSET) -> None:
        self._keeper = keeper
        self._idempotent = keeper.spec.idempotent
        self._timeout = keeper.spec.call_timeout if isinstance(timeout, Unset) else timeout

    def __repr__(self) -> str:
        return f"<PluginChannel to {self._keeper.spec.name!r}, {self._keeper.state}>"

    async def wait_ready(self) -> Instance:
        """Wait for the plugin as a call without a deadline of its own would."""
        return await _await_instance(self._keeper, None)

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[Any],
        reply_type: type[Any],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> PluginCall:
        """Return a call, as `grpclib.client.Channel.request` does; it begins when it is entered.

        Args:
            name: the route, as in `/proto.KV/Get`.
            cardinality: which sides stream.
            request_type: the message type that goes out.
            reply_type: the message type that comes back.
            timeout: seconds for the whole call, the wait for the plugin included; the channel's default when None.
            deadline: the same as a point in time; the earlier of the two counts.
            metadata: what goes out as headers.
        """
        if timeout is None and deadline is None:
            timeout = self._timeout
        if timeout is not None:
            at = Deadline.from_timeout(timeout)
            deadline = at if deadline is None else min(at, deadline)
        return PluginCall(self._keeper, (name, cardinality, request_type, reply_type), deadline, metadata)

    async def unary(
        self,
        name: str,
        request: Any,
        reply_type: type[_ReplyT],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> _ReplyT:
        """Make a unary call and return its reply. The arguments are those of `request`.

        While the plugin is ready this is its channel's call and the count of it, and no more.
        """
        keeper = self._keeper
        if get_ident() != keeper.thread:  # to ask for the running loop costs a system call
            keeper.check_loop()
        instance = keeper.ready_instance
        if instance is None or name in self._idempotent:
            return await self._unary_at_length(
                name, request, reply_type, timeout=timeout, deadline=deadline, metadata=metadata
            )
        if timeout is None and deadline is None:
            timeout = self._timeout
        channel = instance.channel
        assert channel is not None
        instance.in_flight += 1
        try:
            return await channel.unary(
                name, request, reply_type, timeout=timeout, deadline=deadline, metadata=metadata
            )  # fmt: skip
        except Exception as failure:
            explained = await _explain(failure, name, keeper, instance)
            if explained is failure:
                raise
            raise explained from failure
        finally:
            instance.in_flight -= 1
            if not instance.in_flight:
                instance.rest()

    async def _unary_at_length(
        self,
        name: str,
        request: Any,
        reply_type: type[_ReplyT],
        *,
        timeout: float | None,
        deadline: Deadline | None,
        metadata: Mapping[str, Any] | None,
    ) -> _ReplyT:
        """Make a call that has to wait for the plugin, or may have to be repeated."""
        call = self.request(
            name, Cardinality.UNARY_UNARY, type(request), reply_type,
            timeout=timeout, deadline=deadline, metadata=metadata,
        )  # fmt: skip
        async with call:
            await call.send_message(request, end=True)
            reply: _ReplyT = await call.recv_message()
        return reply


async def _await_instance(keeper: Keeper, deadline: Deadline | None) -> Instance:
    keeper.check_loop()
    if (instance := keeper.ready_instance) is not None:
        return instance
    patience = keeper.spec.ready_timeout
    remaining = deadline.time_remaining() if deadline is not None else None
    limit = patience if remaining is None else min(patience, remaining)
    with anyio.move_on_after(limit):
        return await keeper.wait_ready()
    if limit == patience:
        raise PluginUnavailableError(
            f"not ready within {patience:g} s, it is {keeper.state}",
            plugin=keeper.spec.name,
            report=keeper.last_exit,
            hint="raise ready_timeout, or look at why it is not coming up",
        )
    raise DeadlineExceededError(
        f"the call's deadline passed while the plugin was {keeper.state}", plugin=keeper.spec.name
    )


class PluginCall(StreamIterator[Any]):
    """One call: grpclib's client stream, whose errors are this library's and tell whether the plugin died."""

    def __init__(
        self,
        keeper: Keeper,
        target: tuple[str, Cardinality, type[Any], type[Any]],
        deadline: Deadline | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        self._keeper = keeper
        self._target = target
        self._deadline = deadline
        self._metadata = metadata
        self._instance: Instance | None = None
        self._stream: Call[Any, Any] | None = None
        # A unary request of an idempotent method, kept until its answer is here.
        self._repeatable = target[0] in keeper.spec.idempotent and target[1] is Cardinality.UNARY_UNARY
        self._request: Any = None

    # --- entering and leaving --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._close(kind, error, trace)
        except Exception as failure:  # noqa: BLE001  # explained and raised
            await self._fail(failure)

    async def _open(self) -> None:
        self._instance = instance = await _await_instance(self._keeper, self._deadline)
        channel = instance.channel
        assert channel is not None
        instance.enter_call()
        try:
            self._stream = channel.request(*self._target, deadline=self._deadline, metadata=self._metadata)
            await self._stream.__aenter__()
        except BaseException as failure:
            self._stream = None
            instance.leave_call()
            if isinstance(failure, Exception):
                await self._fail(failure)
            raise

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        assert self._instance is not None
        try:
            await stream.__aexit__(kind, error, trace)
        finally:
            self._instance.leave_call()

    # --- what stubs use --------------------------------------------------------------------------------------------

    @property
    def initial_metadata(self) -> Any:
        """The headers of the answer, once received."""
        return self._opened.initial_metadata

    @property
    def trailing_metadata(self) -> Any:
        """The trailers of the answer, once received."""
        return self._opened.trailing_metadata

    @property
    def peer(self) -> Any:
        """The plugin's end of the connection, as grpclib shows it."""
        return self._opened.peer

    async def send_request(self, *, end: bool = False) -> None:
        """Send the headers."""
        await self._do(self._opened.send_request(end=end))

    async def send_message(self, message: Any, *, end: bool = False) -> None:
        """Send one message, and with `end` close the sending side."""
        if self._repeatable:
            self._request = message
        try:
            await self._opened.send_message(message, end=end)
        except Exception as failure:  # noqa: BLE001  # explained and raised
            await self._fail(failure)

    async def end(self) -> None:
        """Close the sending side."""
        await self._do(self._opened.end())

    async def recv_initial_metadata(self) -> None:
        """Wait for the headers of the answer."""
        await self._do(self._opened.recv_initial_metadata())

    async def recv_message(self) -> Any:
        """Wait for the next message; None after the last."""
        while True:
            try:
                message = await self._opened.recv_message()
            except Exception as failure:  # noqa: BLE001  # explained and raised
                if not self._repeatable:
                    await self._fail(failure)
                await self._repeat_after(failure)
            else:
                return message

    async def recv_trailing_metadata(self) -> None:
        """Wait for the trailers of the answer."""
        await self._do(self._opened.recv_trailing_metadata())

    async def cancel(self) -> None:
        """Tell the plugin that nobody waits for the answer any more."""
        await self._do(self._opened.cancel())

    def fail(self, error: Exception) -> None:
        """End the call with the caller's own error, such as one of the iterator that its requests come from."""
        self._opened.fail(error)

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    @property
    def _opened(self) -> Call[Any, Any]:
        if self._stream is None:
            raise RuntimeError("the call is not open: use it inside `async with`")
        return self._stream

    async def _do(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except Exception as failure:  # noqa: BLE001  # explained and raised
            await self._fail(failure)

    # --- what became of it -----------------------------------------------------------------------------------------

    async def _repeat_after(self, failure: Exception) -> None:
        """Send the request of an idempotent method to the next life, until the call's deadline; else raise."""
        explained = await self._explain(failure)
        if not isinstance(explained, PluginCrashedError):
            raise explained from failure
        # The broken stream has nothing left to say; leaving it only gives its resources back.
        with suppress(Exception):
            await self._close(type(failure), failure, None)
        await self._open()
        await self.send_message(self._request, end=True)

    async def _fail(self, failure: Exception) -> NoReturn:
        explained = await self._explain(failure)
        if explained is failure:
            raise failure
        raise explained from failure

    async def _explain(self, failure: Exception) -> Exception:
        return await _explain(failure, self._target[0], self._keeper, self._instance)


async def _explain(failure: Exception, route: str, keeper: Keeper, instance: Instance | None) -> Exception:
    """Return the error the caller gets: the death of the process overrides whatever the connection said."""
    if instance is not None and _may_be_death(failure, instance):
        maybe_executed = getattr(failure, "maybe_executed", True)
        if await instance.has_exited(within=_EXIT_AFTER_LOSS):
            report = instance.report()
            return PluginCrashedError(
                f"ended while {route} was in flight: {report.summary}",
                plugin=keeper.spec.name,
                report=report,
                maybe_executed=maybe_executed,
                hint="the call may have run" if maybe_executed else "the call was not sent and is safe to repeat",
            )
    if isinstance(failure, DeadlineExceededError):
        return DeadlineExceededError(
            f"{route} was not answered before its deadline",
            plugin=keeper.spec.name,
            hint="give the call a longer timeout, or raise the plugin's call_timeout",
        )
    if isinstance(failure, SupervisorError) and failure.plugin is None:
        failure.plugin = keeper.spec.name
    return failure


def _may_be_death(failure: Exception, instance: Instance) -> bool:
    match failure:
        case ConnectionLostError():
            # A connection that goes on serves its last calls and has refused this one.
            return instance.channel_lost
        case CallResetError():
            return instance.going_away
        case GRPCError(status=status):
            return status in _MAYBE_DEATH and instance.going_away
        case _:
            return False
