"""What every transport must do, as functions: run them over one of your own.

    @pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
    async def test_transport(check):
        await check(connect)

`connect(service, limits)` is an async context manager that serves `service` and yields a `Link` to it; both ends of the
connection keep `limits`. Each check takes it and raises `AssertionError` where the transport breaks the contract. Every
wait in here is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline

from supervisor.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    MessageTooLargeError,
    SupervisorError,
)
from supervisor.terms import Limits

__all__ = ["TRANSPORT_CHECKS", "Blob", "ContractService", "Link", "call_stream", "call_unary"]

_BOUND = 10.0
"""Seconds after which a wait in a check counts as a hang."""

_PREFIX = "/supervisor.testing.Contract/"


class Blob:
    """A message that is its own bytes, so that a check of the transport does not depend on a codec."""

    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"Blob({len(self.data)} bytes)"

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the wire form."""
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> Blob:  # noqa: N802 - protobuf's name
        """Return the message for a wire form."""
        return cls(bytes(data))


@dataclass(frozen=True, slots=True)
class Link:
    """A connection to a served `ContractService`.

    Attributes:
        channel: what stubs take.
        drop: cuts the connection without notice, as the death of the peer does.
    """

    channel: Any
    drop: Callable[[], None]


Connect = Callable[["ContractService", Limits], AbstractAsyncContextManager[Link]]
Check = Callable[[Connect], Awaitable[None]]


class ContractService:
    """The servicer behind the checks: one method of each kind, and some that misbehave on request.

    Attributes:
        entered: counts the calls of `Hang` that have begun.
        cancelled: counts those that were cancelled.
    """

    def __init__(self) -> None:
        self.entered = Counter()
        self.cancelled = Counter()
        self.metadata: list[Mapping[str, str | bytes]] = []
        self.deadlines: list[Deadline | None] = []

    def __mapping__(self) -> dict[str, Handler]:
        """Return the routes, as grpclib's generated servicers do."""
        kinds = {
            "Echo": (self._echo, Cardinality.UNARY_UNARY),
            "Fail": (self._fail, Cardinality.UNARY_UNARY),
            "Hang": (self._hang, Cardinality.UNARY_UNARY),
            "Headers": (self._headers, Cardinality.UNARY_UNARY),
            "Repeat": (self._repeat, Cardinality.UNARY_STREAM),
            "Endless": (self._endless, Cardinality.UNARY_STREAM),
            "Collect": (self._collect, Cardinality.STREAM_UNARY),
            "Relay": (self._relay, Cardinality.STREAM_STREAM),
        }
        return {_PREFIX + name: Handler(func, kind, Blob, Blob) for name, (func, kind) in kinds.items()}

    async def _echo(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def _fail(self, stream: Any) -> None:
        number, _, text = (await stream.recv_message()).data.decode().partition(":")
        if number == "crash":
            raise ZeroDivisionError(text)
        raise GRPCError(Status(int(number)), text)

    async def _hang(self, stream: Any) -> None:
        self.deadlines.append(stream.deadline)
        self.entered.add()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.add()
            raise

    async def _headers(self, stream: Any) -> None:
        self.metadata.append(stream.metadata)
        await stream.send_initial_metadata(metadata={"initial": "one", "initial-bin": b"\x00\xff"})
        await stream.send_message(await stream.recv_message())
        await stream.send_trailing_metadata(metadata={"trailing": "two", "trailing-bin": b"\xfe\x00\x01"})

    async def _repeat(self, stream: Any) -> None:
        count, _, data = (await stream.recv_message()).data.partition(b":")
        for _ in range(int(count)):
            await stream.send_message(Blob(data))
        if not data:
            raise GRPCError(Status.DATA_LOSS, "mid")

    async def _endless(self, stream: Any) -> None:
        message = await stream.recv_message()
        self.entered.add()
        try:
            while True:
                await stream.send_message(message)
        except asyncio.CancelledError:
            self.cancelled.add()
            raise

    async def _collect(self, stream: Any) -> None:
        parts = [message.data async for message in stream]
        await stream.send_message(Blob(b"".join(parts)))

    async def _relay(self, stream: Any) -> None:
        async for message in stream:
            if message.data == b"stop":
                return
            await stream.send_message(message)


class Counter:
    """A number that can be waited for."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = asyncio.Event()

    def add(self) -> None:
        """Count one."""
        self.value += 1
        self._changed.set()

    async def reach(self, value: int) -> None:
        """Wait until the number is at least `value`.

        Raises:
            TimeoutError: it is not after ten seconds.
        """
        async with asyncio.timeout(_BOUND):
            while self.value < value:
                self._changed.clear()
                await self._changed.wait()


async def call_unary(channel: Any, method: str, data: bytes = b"", **options: Any) -> bytes:
    """Call a unary method of `ContractService`; returns the reply's bytes."""
    kind = Cardinality.STREAM_UNARY if method == "Collect" else Cardinality.UNARY_UNARY
    async with channel.request(_PREFIX + method, kind, Blob, Blob, **options) as stream:
        await stream.send_message(Blob(data), end=True)
        reply = await stream.recv_message()
    assert reply is not None
    result: bytes = reply.data
    return result


async def call_stream(
    channel: Any, method: str, requests: Iterable[bytes] | AsyncIterable[bytes], **options: Any
) -> list[bytes]:
    """Call a streaming method of `ContractService` with all requests first; returns the replies' bytes."""
    kinds = {"Collect": Cardinality.STREAM_UNARY, "Relay": Cardinality.STREAM_STREAM}
    kind = kinds.get(method, Cardinality.UNARY_STREAM)
    async with channel.request(_PREFIX + method, kind, Blob, Blob, **options) as stream:
        await stream.send_request()
        if isinstance(requests, AsyncIterable):
            async for data in requests:
                await stream.send_message(Blob(data))
        else:
            for data in requests:
                await stream.send_message(Blob(data))
        if kind.client_streaming:
            await stream.end()
        return [message.data async for message in stream]


async def check_unary(connect: Connect) -> None:
    """A request gets its reply."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        assert await call_unary(link.channel, "Echo", b"hello") == b"hello"


async def check_sizes(connect: Connect) -> None:
    """Messages of any size up to the limit arrive whole, the empty one included."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(3 * _BOUND):
        for size in (0, 1, 5, 16_379, 16_384, 65_535, 65_536, 1 << 20, 5 << 20):
            data = size.to_bytes(4, "big") * (size // 4 + 1)
            assert await call_unary(link.channel, "Echo", data[:size]) == data[:size]


async def check_server_streaming(connect: Connect) -> None:
    """All messages of a response arrive, and more than the stream's window at once."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        assert await call_stream(link.channel, "Repeat", [b"1000:x"]) == [b"x"] * 1000
        replies = await call_stream(link.channel, "Repeat", [b"40:" + b"y" * 100_000])
        assert [len(reply) for reply in replies] == [100_000] * 40


async def check_client_streaming(connect: Connect) -> None:
    """All messages of a request arrive in order."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        parts = [b"%d," % number for number in range(200)]
        assert await call_stream(link.channel, "Collect", parts) == [b"".join(parts)]
        assert await call_stream(link.channel, "Collect", []) == [b""]


async def check_bidirectional(connect: Connect) -> None:
    """Each side sends when it likes: a reply arrives before the next request is sent."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        route = _PREFIX + "Relay"
        async with link.channel.request(route, Cardinality.STREAM_STREAM, Blob, Blob) as stream:
            for number in range(20):
                await stream.send_message(Blob(b"%d" % number))
                assert await stream.recv_message() == Blob(b"%d" % number)
            await stream.end()
            assert await stream.recv_message() is None


async def check_server_ends_first(connect: Connect) -> None:
    """A server may end a bidirectional call that the client has not ended; later requests are dropped."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        route = _PREFIX + "Relay"
        async with link.channel.request(route, Cardinality.STREAM_STREAM, Blob, Blob) as stream:
            await stream.send_message(Blob(b"stop"))
            assert await stream.recv_message() is None
            await stream.send_message(Blob(b"late"))
        assert await call_unary(link.channel, "Echo", b"next") == b"next"


async def check_status(connect: Connect) -> None:
    """A status other than OK arrives as `GRPCError`, its message too, whatever characters it has."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        for status in (Status.NOT_FOUND, Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED, Status.DEADLINE_EXCEEDED):
            error = await _error_of(call_unary(link.channel, "Fail", f"{status.value}:nöt % found\n".encode()))
            assert isinstance(error, GRPCError), error
            assert (error.status, error.message) == (status, "nöt % found\n")
        error = await _error_of(call_stream(link.channel, "Repeat", [b"3:"]))
        assert isinstance(error, GRPCError), error
        assert (error.status, error.message) == (Status.DATA_LOSS, "mid")


async def check_handler_crash(connect: Connect) -> None:
    """What a handler raises by accident becomes UNKNOWN, without its text, and the connection goes on."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        error = await _error_of(call_unary(link.channel, "Fail", b"crash:secret"))
        assert isinstance(error, GRPCError), error
        assert error.status is Status.UNKNOWN
        assert "secret" not in str(error.message)
        assert await call_unary(link.channel, "Echo", b"next") == b"next"


async def check_unknown_method(connect: Connect) -> None:
    """A method that nobody serves is answered UNIMPLEMENTED."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(_BOUND):
        error = await _error_of(call_unary(link.channel, "Nothing"))
        assert isinstance(error, GRPCError), error
        assert error.status is Status.UNIMPLEMENTED


async def check_metadata(connect: Connect) -> None:
    """Metadata arrives both ways; values of keys that end in `-bin` are bytes, any bytes."""
    service = ContractService()
    async with connect(service, Limits()) as link, asyncio.timeout(_BOUND):
        sent = {"plain": "text", "some-bin": bytes(range(256))}
        route = _PREFIX + "Headers"
        async with link.channel.request(route, Cardinality.UNARY_UNARY, Blob, Blob, metadata=sent) as stream:
            await stream.send_message(Blob(b"x"), end=True)
            await stream.recv_message()
            await stream.recv_trailing_metadata()
        assert {key: service.metadata[0][key] for key in sent} == sent
        assert (stream.initial_metadata["initial"], stream.initial_metadata["initial-bin"]) == ("one", b"\x00\xff")
        assert stream.trailing_metadata["trailing"] == "two"
        assert stream.trailing_metadata["trailing-bin"] == b"\xfe\x00\x01"


async def check_deadline(connect: Connect) -> None:
    """A deadline ends the call on both sides, and the server knows it beforehand."""
    service = ContractService()
    async with connect(service, Limits()) as link, asyncio.timeout(_BOUND):
        error = await _error_of(call_unary(link.channel, "Hang", timeout=0.1))
        assert isinstance(error, DeadlineExceededError), error
        assert isinstance(error, TimeoutError)
        await service.cancelled.reach(1)
        assert service.deadlines[0] is not None
        error = await _error_of(call_stream(link.channel, "Endless", [b"x"], timeout=0.1))
        assert isinstance(error, DeadlineExceededError), error
        assert await call_unary(link.channel, "Echo", b"next", timeout=_BOUND) == b"next"


async def check_cancellation(connect: Connect) -> None:
    """A caller that is cancelled cancels the handler, and only that one."""
    service = ContractService()
    async with connect(service, Limits()) as link, asyncio.timeout(_BOUND):
        call = asyncio.create_task(call_unary(link.channel, "Hang"))
        await service.entered.reach(1)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        await service.cancelled.reach(1)
        assert await call_unary(link.channel, "Echo", b"next") == b"next"


async def check_abandoned_stream(connect: Connect) -> None:
    """A caller that leaves a streaming response early cancels the handler."""
    service = ContractService()
    async with connect(service, Limits()) as link, asyncio.timeout(_BOUND):
        route = _PREFIX + "Endless"
        async with link.channel.request(route, Cardinality.UNARY_STREAM, Blob, Blob) as stream:
            await stream.send_message(Blob(b"x" * 1000), end=True)
            await stream.recv_message()
            await stream.cancel()
        await service.cancelled.reach(1)
        assert await call_unary(link.channel, "Echo", b"next") == b"next"


async def check_unread_stream(connect: Connect) -> None:
    """A response that nobody reads holds back itself and no other call."""
    service = ContractService()
    async with connect(service, Limits()) as link, asyncio.timeout(2 * _BOUND):
        route = _PREFIX + "Endless"
        async with link.channel.request(route, Cardinality.UNARY_STREAM, Blob, Blob) as stream:
            await stream.send_message(Blob(b"x" * 65_536), end=True)
            await stream.recv_message()
            for _ in range(5):
                data = b"y" * (2 << 20)
                assert await call_unary(link.channel, "Echo", data) == data
            await stream.cancel()


async def check_message_limit(connect: Connect) -> None:
    """A message over the limit fails with its size and the limit, whoever notices; the connection goes on."""
    limit = 100_000
    async with connect(ContractService(), Limits(message_size=limit)) as link, asyncio.timeout(_BOUND):
        assert len(await call_unary(link.channel, "Echo", b"x" * limit)) == limit
        error = await _error_of(call_unary(link.channel, "Echo", b"x" * (limit + 1)))
        assert isinstance(error, MessageTooLargeError), error
        assert (error.size, error.limit) == (limit + 1, limit)
        error = await _error_of(call_stream(link.channel, "Collect", [b"x" * limit, b"y"]))
        assert isinstance(error, MessageTooLargeError), error
        assert await call_unary(link.channel, "Echo", b"next") == b"next"


async def check_queue(connect: Connect) -> None:
    """Calls beyond the limit wait for their turn, first come first served, and all are served."""
    service = ContractService()
    async with connect(service, Limits(calls_in_flight=4)) as link, asyncio.timeout(_BOUND):
        order: list[int] = []

        async def call(number: int) -> None:
            await call_unary(link.channel, "Echo", b"x")
            order.append(number)

        hanging = [asyncio.create_task(call_unary(link.channel, "Hang")) for _ in range(3)]
        await service.entered.reach(3)
        await asyncio.gather(*(call(number) for number in range(50)))
        assert order == list(range(50))
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)


async def check_drop(connect: Connect) -> None:
    """When the connection drops, every call ends, also those that queue, and says whether it may have run."""
    service = ContractService()
    async with connect(service, Limits(calls_in_flight=4)) as link, asyncio.timeout(_BOUND):
        calls = [asyncio.create_task(call_unary(link.channel, "Hang")) for _ in range(10)]
        await service.entered.reach(4)
        link.drop()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, ConnectionLostError) for error in errors), errors
        executed = [error.maybe_executed for error in errors if isinstance(error, ConnectionLostError)]
        assert executed == [True] * 4 + [False] * 6
        error = await _error_of(call_unary(link.channel, "Echo", b"x"))
        assert isinstance(error, ConnectionLostError), error
        assert not error.maybe_executed
        await service.cancelled.reach(4)


async def check_concurrency(connect: Connect) -> None:
    """A thousand calls at once are all answered, each with its own reply."""
    async with connect(ContractService(), Limits()) as link, asyncio.timeout(2 * _BOUND):
        replies = await asyncio.gather(*(call_unary(link.channel, "Echo", b"%d" % i) for i in range(1000)))
        assert replies == [b"%d" % i for i in range(1000)]


async def _error_of(call: Awaitable[object]) -> Exception:
    try:
        result = await call
    except (SupervisorError, GRPCError) as error:
        return error
    raise AssertionError(f"the call should have failed and returned {result!r}")


TRANSPORT_CHECKS: tuple[Check, ...] = (
    check_unary,
    check_sizes,
    check_server_streaming,
    check_client_streaming,
    check_bidirectional,
    check_server_ends_first,
    check_status,
    check_handler_crash,
    check_unknown_method,
    check_metadata,
    check_deadline,
    check_cancellation,
    check_abandoned_stream,
    check_unread_stream,
    check_message_limit,
    check_queue,
    check_drop,
    check_concurrency,
)
"""Every check, in an order that goes from simple to hard."""
