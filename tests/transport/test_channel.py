"""A channel is one connection; every call on it ends, with a typed error or a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from engines import transport_of
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from supervisor.address import MemoryAddress, UnixAddress
from supervisor.errors import (
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    EncodeError,
    ProtocolViolationError,
)
from supervisor.terms import Limits
from supervisor.testing.transport_contract import Blob, ContractService, call_unary
from supervisor.transport.channel import Channel
from supervisor.transport.memory import MemoryTransport
from supervisor.transport.server import Server

pytestmark = pytest.mark.usefixtures("nothing_left", "engine")

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]
PREFIX = "/supervisor.testing.Contract/"


async def _expire(channel: Channel) -> None:
    with pytest.raises(DeadlineExceededError):
        await call_unary(channel, "Hang", timeout=0.01)


async def _drop(server: Server, channel: Channel, service: ContractService) -> None:
    async def drop() -> None:
        await service.entered.reach(1)
        server.abort()

    dropping = asyncio.create_task(drop())
    with pytest.raises(ConnectionLostError):
        await call_unary(channel, "Hang")
    await dropping


@pytest.mark.parametrize("cause", ["deadline", "drop"])
async def test_call_that_failed_leaves_no_cancellation(connect: Connect, service: ContractService, cause: str) -> None:
    """After a deadline or a lost connection the task is not marked as cancelled, and timeouts around it work."""
    server, channel = await connect()
    task = asyncio.current_task()
    assert task is not None

    async def fail() -> None:
        await (_expire(channel) if cause == "deadline" else _drop(server, channel, service))

    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.3):
            await fail()
            assert task.cancelling() == 0
            await anyio.sleep(5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.sleep(5)
    assert task.cancelling() == 0


@pytest.mark.parametrize("cause", ["deadline", "drop"])
async def test_task_group_after_a_failed_call_reports_its_child(
    connect: Connect, service: ContractService, cause: str
) -> None:
    """A task group around a failed call ends with the error of its failing child, not with a cancellation."""
    server, channel = await connect()

    async def child() -> None:
        raise LookupError("child")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            await (_expire(channel) if cause == "deadline" else _drop(server, channel, service))
            group.create_task(child())
            await asyncio.sleep(5)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def test_move_on_after_cancels_the_call_and_nothing_else(connect: Connect, service: ContractService) -> None:
    """An anyio scope that ends during a call is seen by the handler, and the channel goes on."""
    _, channel = await connect()
    with anyio.move_on_after(0.05) as scope:
        await call_unary(channel, "Hang")
    assert scope.cancelled_caught
    await service.cancelled.reach(1)
    assert await call_unary(channel, "Echo", b"next") == b"next"


async def test_deadline_in_the_past_sends_nothing(connect: Connect, service: ContractService) -> None:
    """A call whose deadline has passed fails before anything is sent."""
    _, channel = await connect()
    with pytest.raises(DeadlineExceededError):
        await call_unary(channel, "Hang", timeout=0)
    assert await call_unary(channel, "Echo", b"x") == b"x"
    assert service.entered.value == 0


async def test_call_knows_whether_it_may_have_been_executed(connect: Connect) -> None:
    """`maybe_executed` turns true when the headers are written, not before."""
    _, channel = await connect()
    async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Blob) as call:
        assert not call.maybe_executed
        await call.send_message(Blob(b"x"), end=True)
        assert call.maybe_executed
        await call.recv_message()


async def test_close_ends_every_call_at_once(connect: Connect, service: ContractService) -> None:
    """`close()` ends calls in flight and in the queue in the next turns of the loop, and may be repeated."""
    _, channel = await connect(limits=Limits(calls_in_flight=2))
    calls = [asyncio.create_task(call_unary(channel, "Hang")) for _ in range(5)]
    await service.entered.reach(2)
    channel.close()
    channel.close()
    assert channel.is_lost
    done, pending = await asyncio.wait(calls, timeout=1)
    assert not pending
    errors = [task.exception() for task in done]
    assert all(isinstance(error, ConnectionLostError) for error in errors)
    assert sum(error.maybe_executed for error in errors if isinstance(error, ConnectionLostError)) == 2
    assert channel.in_flight == 0


async def test_channel_never_reconnects(connect: Connect, folder: Path) -> None:
    """After the server is gone, a new one at the same address does not get the old channel's calls."""
    address = UnixAddress(str(folder / "same"))
    first, channel = await connect(address=address)
    await first.stop()
    async with asyncio.timeout(2):
        await channel.lost.wait()
    second, _ = await connect(address=address)
    with pytest.raises(ConnectionLostError) as caught:
        await call_unary(channel, "Echo", b"x")
    assert not caught.value.maybe_executed
    assert second.in_flight == 0
    assert isinstance(channel.failure, ConnectionLostError)
    assert "lost" in repr(channel)


async def test_two_thousand_calls_end_when_the_connection_drops(connect: Connect, service: ContractService) -> None:
    """2,000 calls in flight all end within a bounded time of the drop."""
    server, channel = await connect()
    calls = [asyncio.create_task(call_unary(channel, "Hang", timeout=60)) for _ in range(2000)]
    await service.entered.reach(2000)
    assert channel.in_flight == server.in_flight == 2000
    server.abort()
    began = time.monotonic()
    _, pending = await asyncio.wait(calls, timeout=10)
    assert not pending
    assert time.monotonic() - began < 2
    assert {type(task.exception()) for task in calls} == {ConnectionLostError}


async def test_wait_idle_returns_when_the_last_call_ends(connect: Connect, service: ContractService) -> None:
    """`wait_idle` is what draining waits for; it returns at once when there is nothing to wait for."""
    _, channel = await connect()
    await channel.wait_idle()
    call = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    idle = asyncio.create_task(channel.wait_idle())
    await call_unary(channel, "Echo")
    assert not idle.done()
    call.cancel()
    async with asyncio.timeout(2):
        await idle
    assert channel.in_flight == 0


async def test_reply_of_a_server_that_dies_after_it_is_delivered(connect: Connect) -> None:
    """A complete answer counts although the connection was lost before the caller looked at it."""
    server: Server | None = None

    class Dying(ContractService):
        async def _echo(self, stream: Any) -> None:
            await super()._echo(stream)
            await stream.send_trailing_metadata()
            assert server is not None
            server.close()

    server, channel = await connect(Dying())
    async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Blob) as call:
        await call.send_message(Blob(b"last words"), end=True)
        async with asyncio.timeout(2):
            await channel.lost.wait()
        assert await call.recv_message() == Blob(b"last words")


@pytest.mark.parametrize("request_data", [b"0:x", b"2:x", b"3:" + b"x" * 700_000], ids=["none", "two", "large"])
async def test_unary_call_answered_with_another_number_of_messages(connect: Connect, request_data: bytes) -> None:
    """A unary call that is answered OK with no message or several is the peer's fault, and does not hang."""
    _, channel = await connect()
    with pytest.raises(ProtocolViolationError):
        async with asyncio.timeout(5), channel.request(PREFIX + "Repeat", Cardinality.UNARY_UNARY, Blob, Blob) as call:
            await call.send_message(Blob(request_data), end=True)
            await call.recv_message()
    assert await call_unary(channel, "Echo", b"next") == b"next"


async def test_error_of_the_caller_passes_unchanged(connect: Connect, service: ContractService) -> None:
    """What the body of a call raises is not translated, whatever class it has; the peer's handler is cancelled."""
    _, channel = await connect()
    mine = OSError("mine")
    with pytest.raises(OSError, match="mine") as caught:
        async with channel.request(PREFIX + "Hang", Cardinality.UNARY_UNARY, Blob, Blob) as call:
            await call.send_message(Blob(), end=True)
            await service.entered.reach(1)
            raise mine
    assert caught.value is mine
    await service.cancelled.reach(1)


async def test_status_that_the_caller_handled_is_not_raised_again(connect: Connect) -> None:
    """A body that catches the status leaves the call in peace."""
    _, channel = await connect()
    for method, request in (("Fail", b"5:no"), ("Repeat", b"1:")):
        kind = Cardinality.UNARY_UNARY if method == "Fail" else Cardinality.UNARY_STREAM
        async with channel.request(PREFIX + method, kind, Blob, Blob) as call:
            await call.send_message(Blob(request), end=True)
            with pytest.raises(GRPCError):
                while await call.recv_message() is not None:
                    pass
                await call.recv_trailing_metadata()


@pytest.mark.parametrize("metadata", [{"Upper": "x"}, {"key": "ü"}, {"key-bin": "text"}, {"grpc-own": "x"}])
async def test_bad_metadata_is_a_configuration_error(connect: Connect, metadata: dict[str, str]) -> None:
    """Metadata that HTTP/2 cannot carry fails before anything is sent."""
    _, channel = await connect()
    with pytest.raises(ConfigurationError):
        await call_unary(channel, "Echo", b"x", metadata=metadata)


async def test_message_of_the_wrong_type_is_an_encode_error(connect: Connect) -> None:
    """A message that is not of the method's request type fails typed, and the channel goes on."""
    _, channel = await connect()
    with pytest.raises(EncodeError):
        async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Blob) as call:
            await call.send_message("text", end=True)  # type: ignore[arg-type] # the mistake that is tested
    assert await call_unary(channel, "Echo", b"next") == b"next"


@pytest.mark.parametrize("misuse", ["message twice", "end twice", "request twice", "early end", "cancel first"])
async def test_call_used_out_of_order_is_a_protocol_violation(connect: Connect, misuse: str) -> None:
    """Grpclib's complaint about misuse is typed as ours."""
    _, channel = await connect()
    with pytest.raises(ProtocolViolationError):
        async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Blob) as call:
            match misuse:
                case "message twice":
                    await call.send_message(Blob())
                    await call.send_message(Blob())
                case "end twice":
                    await call.send_message(Blob(), end=True)
                    await call.end()
                case "request twice":
                    await call.send_request()
                    await call.send_request()
                case "early end":
                    await call.send_request(end=True)
                case "cancel first":
                    await call.cancel()


async def test_queued_call_keeps_its_deadline_and_its_place_is_given_up(
    connect: Connect, service: ContractService
) -> None:
    """A call that times out or is cancelled in the queue was not executed, and those behind it move up."""
    _, channel = await connect(limits=Limits(calls_in_flight=1))
    first = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    with pytest.raises(DeadlineExceededError):
        await call_unary(channel, "Echo", timeout=0.02)
    cancelled = asyncio.create_task(call_unary(channel, "Echo", b"cancelled"))
    behind = asyncio.create_task(call_unary(channel, "Echo", b"behind"))
    await asyncio.sleep(0)
    cancelled.cancel()
    first.cancel()
    async with asyncio.timeout(2):
        assert await behind == b"behind"
    assert service.entered.value == 1


async def test_newcomer_does_not_overtake_the_queue(connect: Connect, service: ContractService) -> None:
    """A call that starts in the moment in which a place becomes free waits behind those that waited before."""
    _, channel = await connect(limits=Limits(calls_in_flight=1))
    order: list[str] = []

    async def call(name: str) -> None:
        await call_unary(channel, "Echo")
        order.append(name)

    first = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    queued = asyncio.create_task(call("queued"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    newcomer = asyncio.create_task(call("newcomer"))
    await asyncio.gather(queued, newcomer)
    assert order == ["queued", "newcomer"]


def _stall(server: Server) -> MemoryTransport:
    """Let the server's end of its only connection take no more bytes."""
    (protocol,) = server._protocols
    transport = transport_of(protocol)
    assert isinstance(transport, MemoryTransport)
    transport.pause_reading()
    return transport


@pytest.mark.parametrize("end", ["deadline", "close", "resume"])
async def test_calls_behind_a_peer_that_does_not_read_end(connect: Connect, end: str) -> None:
    """Calls that wait for a full connection end with their deadline, with the channel, or when the peer reads again."""
    server, channel = await connect(address=MemoryAddress(f"stalled-{end}"))
    transport = _stall(server)
    timeout = 0.2 if end == "deadline" else 5
    calls = [asyncio.create_task(call_unary(channel, "Echo", b"x" * 60_000, timeout=timeout)) for _ in range(20)]
    await asyncio.sleep(0)
    assert channel.in_flight == 20
    if end == "close":
        channel.close()
    elif end == "resume":
        transport.resume_reading()
    _, pending = await asyncio.wait(calls, timeout=3)
    assert not pending
    expected = {"deadline": DeadlineExceededError, "close": ConnectionLostError, "resume": type(None)}[end]
    assert {type(call.exception()) for call in calls} == {expected}


async def test_draining_peer_finishes_the_call_and_takes_no_other(connect: Connect, service: ContractService) -> None:
    """After a GOAWAY the call under way gets its reply, a new one fails at once, and the channel ends by itself."""
    server, channel = await connect()
    route = PREFIX + "Relay"
    async with channel.request(route, Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"one"))
        assert await call.recv_message() == Blob(b"one")
        stopping = asyncio.create_task(server.stop(5))
        await call.send_message(Blob(b"two"))
        assert await call.recv_message() == Blob(b"two")
        assert channel.is_draining
        with pytest.raises(ConnectionLostError) as caught:
            await call_unary(channel, "Echo")
        assert not caught.value.maybe_executed
        await call.end()
        assert await call.recv_message() is None
    async with asyncio.timeout(2):
        assert await stopping == 0
        await channel.lost.wait()


async def test_peer_that_sends_without_pause_leaves_the_loop_to_others(connect: Connect) -> None:
    """An endless response of tiny messages delays a timer by milliseconds, not by the whole window's worth."""
    _, channel = await connect()
    loop = asyncio.get_running_loop()
    async with channel.request(PREFIX + "Endless", Cardinality.UNARY_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"x"), end=True)
        latest = 0.0
        for _ in range(50):
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            latest = max(latest, loop.time() - due)
            await call.recv_message()
        await call.cancel()
    assert latest < 0.5


async def test_streaming_request_stops_when_the_server_has_failed(connect: Connect) -> None:
    """A server that refuses a streaming request early is heard by a client that would send for ever."""
    _, channel = await connect()
    with pytest.raises(GRPCError) as caught:
        async with asyncio.timeout(5):
            async with channel.request(PREFIX + "Missing", Cardinality.STREAM_UNARY, Blob, Blob) as call:
                while True:
                    await call.send_message(Blob(b"x"))
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_deadline_ends_a_request_that_the_server_has_answered(connect: Connect) -> None:
    """A client that sends for ever after the server answered OK is dropped until its deadline, and hogs nothing."""
    _, channel = await connect()
    with pytest.raises(DeadlineExceededError):
        async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob, timeout=0.3) as call:
            await call.send_message(Blob(b"stop"))
            while True:
                await call.send_message(Blob(b"x"))
