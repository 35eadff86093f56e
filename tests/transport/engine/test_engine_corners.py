"""Corners of the lean engine that were once wrong, each found by a reader and proven by its test."""

from __future__ import annotations

import asyncio
import gc
import gzip
import math
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import betterproto
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.events import SendTrailingMetadata, listen
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from h2.events import RequestReceived
from h2.settings import SettingCodes
from kv_proto import GetRequest, GetResponse, KvBase, KvStub
from wire_record import REQUEST, RESPONSE, client, server

from supervisor.address import MemoryAddress
from supervisor.errors import (
    CallResetError,
    ConnectionLostError,
    DeadlineExceededError,
    ProtocolViolationError,
    SupervisorError,
)
from supervisor.spec import Limits
from supervisor.testing.raw_peer import RawPeer, message
from supervisor.testing.transport_contract import Blob, ContractService, call_unary
from supervisor.transport.codec import MessageCodec
from supervisor.transport.dial import dial
from supervisor.transport.engine import frames
from supervisor.transport.engine.compression import unpack
from supervisor.transport.engine.faults import ErrorCode, FloodError
from supervisor.transport.engine.frames import frame, header_frames, rst_stream
from supervisor.transport.engine.timers import DeadlineWheel
from supervisor.transport.generated import repair_stub
from supervisor.transport.memory import MemoryListener, connect_memory
from supervisor.transport.server import Server

PREFIX = "/supervisor.testing.Contract/"
Make = Callable[..., Any]
Raw = tuple[RawPeer, Any]

TRAILERS = b"\x00\x0bgrpc-status\x010"
PING = frame(frames.PING, 0, 0, b"12345678")


@pytest.fixture
def engine() -> str:
    """Leave out the other engine."""
    return "lean"


@pytest.fixture
async def raw(errors: list[Any]) -> AsyncIterator[Raw]:
    """Return a server by hand, and a channel of ours to it."""
    peer = RawPeer(client_side=False)
    listener = MemoryListener(MemoryAddress("proof"), lambda: peer)
    channel = await dial(MemoryAddress("proof"), timeout=2)
    yield peer, channel
    channel.close()
    await channel.wait_closed()
    listener.close()


async def request_of(peer: RawPeer) -> int:
    """Wait for a request; return its stream."""

    def found() -> list[int]:
        return [event.stream_id or 0 for event in peer.events if isinstance(event, RequestReceived)]

    await peer.until(found)
    return found()[-1]


async def hand(address: str) -> RawPeer:
    """Return a client by hand, greeted."""
    peer = RawPeer()
    connect_memory(MemoryAddress(address), peer)
    await peer.until(lambda: peer.events)
    return peer


class Store(KvBase):
    """A generated servicer."""

    async def get(self, get_request: GetRequest) -> GetResponse:
        if get_request.key == "missing":
            raise GRPCError(Status.NOT_FOUND, "no such key")
        if get_request.key == "crash":
            raise ZeroDivisionError
        return GetResponse(value=get_request.key.encode())


# --- a healthy connection is ended ---------------------------------------------------------------------------------


def test_pings_beside_calls_are_no_flood() -> None:
    """grpc-go measures its bandwidth with a PING for each message that finds none under way: as many as calls."""
    for side in ("server", "client"):
        recorder = server() if side == "server" else client()
        for number in range(60_000):
            recorder.now += 1 / 8_000
            stream_id = 2 * number + 1
            if side == "client":
                recorder.open()
            block = RESPONSE if side == "client" else REQUEST
            recorder.connection.receive(
                header_frames(stream_id, block, end=False, frame_size=16_384)
                + frame(frames.DATA, frames.END_STREAM, stream_id, message(b"x" * 100))
            )
            recorder.connection.receive(PING)
            recorder.connection.forget(recorder.opened.pop(stream_id))
            recorder.written = b""
            recorder.told.clear()


def test_late_answers_are_no_flood() -> None:
    """Six thousand calls pass their deadline while the plugin stands still; their answers come all the same."""
    recorder = client()
    streams = [recorder.open() for _ in range(6_000)]
    for stream in streams:
        recorder.connection.reset(stream, ErrorCode.CANCEL)
        recorder.connection.forget(stream)
    for stream in streams:
        recorder.connection.receive(
            header_frames(stream.id, RESPONSE, end=False, frame_size=16_384)
            + frame(frames.DATA, 0, stream.id, message(b"x"))
            + header_frames(stream.id, TRAILERS, end=True, frame_size=16_384)
        )


def test_refusals_are_no_flood() -> None:
    """A server that answers early, as ours does who has no such method, resets the stream behind its answer."""
    recorder = client()
    for _ in range(20_000):
        stream = recorder.open()
        recorder.connection.receive(
            header_frames(stream.id, RESPONSE + TRAILERS, end=True, frame_size=16_384) + rst_stream(stream.id, 0)
        )
        recorder.connection.forget(stream)


def test_cancelled_calls_are_no_flood() -> None:
    """A host may give up ten thousand calls a second: it may make ten times as many."""
    recorder = server()
    for number in range(50_000):
        recorder.now += 1 / 10_000
        recorder.connection.receive(
            header_frames(2 * number + 1, REQUEST, end=True, frame_size=16_384) + rst_stream(2 * number + 1, 8)
        )
        recorder.told.clear()


class Talkative(ContractService):
    """Fails at length."""

    async def _fail(self, stream: Any) -> None:
        raise GRPCError(Status.INTERNAL, "x" * 70_000)


@pytest.mark.parametrize("where", ["status", "request"])
async def test_headers_over_the_limit_concern_one_call(connect: Make, where: str) -> None:
    """A status with a long text, or a request with long metadata, does not end the calls beside it."""
    service = Talkative()
    _, channel = await connect(service)
    beside = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    method, metadata = ("Fail", None) if where == "status" else ("Echo", {"token": "x" * 70_000})
    with pytest.raises((GRPCError, SupervisorError)):
        await call_unary(channel, method, metadata=metadata)
    await asyncio.sleep(0)
    try:
        assert not beside.done(), beside.exception()
    finally:
        beside.cancel()


async def test_used_up_stream_ids(connect: Make) -> None:
    """A connection without stream ids left says so as one that drains does, so that whoever owns it makes a new one."""
    _, channel = await connect()
    channel._wire.connection.next_id = 2**31 - 3
    for _ in range(2):
        assert await call_unary(channel, "Echo", b"x") == b"x"
    with pytest.raises(ConnectionLostError):
        await call_unary(channel, "Echo", b"x")
    assert channel.is_draining or channel.is_lost


# --- waits that do not end ------------------------------------------------------------------------------------------


async def test_reply_in_the_same_read_as_a_violation(raw: Raw) -> None:
    """A caller whose reply came whole, right before the peer broke the protocol, is not left waiting."""
    peer, channel = raw
    calling = asyncio.create_task(call_unary(channel, "Echo", b"x"))
    stream = await request_of(peer)
    peer.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    peer.h2.send_data(stream, message(b"reply"))
    peer.h2.send_headers(stream, [("grpc-status", "0"), ("x", "y")], end_stream=True)
    peer.write(peer.h2.data_to_send() + frames.frame(frames.PING, 0, 0, b"?"))
    done, _ = await asyncio.wait({calling}, timeout=2)
    calling.cancel()
    assert done, "the caller waits for ever"


async def test_cancelled_sender_takes_no_wake_up_with_it(raw: Raw) -> None:
    """Of two tasks that wait to send on one call, one may give up."""
    peer, channel = raw
    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"one"))
        await request_of(peer)
        peer.transport.pause_reading()
        channel._wire.connection.send_window = 10**6
        call.send_window = 10**6
        first = asyncio.create_task(call.send_message(Blob(b"a" * 200_000)))
        await asyncio.sleep(0)
        third = asyncio.create_task(call.send_message(Blob(b"a" * 200_000)))
        second = asyncio.create_task(call.send_message(Blob(b"b")))
        for _ in range(10):
            await asyncio.sleep(0)  # both have come as far as they can
        assert not second.done()
        second.cancel()
        await asyncio.wait({second})
        peer.h2.receive_data = lambda _data: []  # type: ignore[method-assign, assignment]
        peer.transport.resume_reading()
        done, _ = await asyncio.wait({first, third}, timeout=2)
        third.cancel()
        assert done == {first, third}
        await call.cancel()


# --- what grows -----------------------------------------------------------------------------------------------------


async def test_waits_that_are_given_up_leave_nothing(connect: Make) -> None:
    """To ask a quiet stream with a timeout, again and again, costs no memory."""
    _, channel = await connect()
    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_request()
        for _ in range(100):
            with suppress(TimeoutError):
                await asyncio.wait_for(call.recv_message(), 0.001)
        assert len(getattr(call, "_waiters", ())) <= 1
        await call.end()


async def test_wheel_forgets_empty_slices() -> None:
    """Calls that were answered leave nothing behind, however far off their deadlines were."""
    loop = asyncio.get_running_loop()
    wheel = DeadlineWheel(loop)
    for number in range(10_000):  # a call every ten milliseconds
        call: Any = object()
        wheel.add(call, loop.time() + 3600 + number / 100).pop(call)
    kept = len(wheel._slices)
    wheel.close()
    assert kept < 100, kept


@pytest.mark.parametrize("key", ["found", "missing", "crash"])
async def test_calls_leave_no_cycles(connect: Make, key: str) -> None:
    """What a call leaves, on either side and however it ends, is freed without the collector: its request too."""
    _, channel = await connect(Store())
    stub = repair_stub(KvStub(channel))

    async def fail() -> None:
        with suppress(GRPCError):
            await stub.get(GetRequest(key=key))

    for _ in range(5):
        await fail()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await fail()
        await asyncio.sleep(0)
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 20, f"{found / 20} objects per call"


def test_small_frames_cost_what_they_weigh() -> None:
    """A message that comes two bytes at a time takes about its own size."""
    recorder = client()
    stream = recorder.open()
    recorder.connection.receive(header_frames(1, RESPONSE, end=False, frame_size=16_384))
    stream.read_on()
    size = 400_000
    recorder.connection.receive(frame(frames.DATA, 0, 1, message(b"", size=size)))
    pieces = frame(frames.DATA, 0, 1, b"ab") * 1000
    tracemalloc.start()
    for _ in range(size // 2000 - 1):
        recorder.connection.receive(pieces)
        recorder.written = b""
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 * size, f"{held / size:.0f} bytes for each byte"


# --- what others see of the order ----------------------------------------------------------------------------------


async def test_calls_begin_in_the_order_in_which_they_came(connect: Make) -> None:
    """A stream and the unary call behind it, in one read: a host follows a plugin's prints, and then has it print."""
    begun = []

    class Recorded(Store):
        async def get(self, get_request: GetRequest) -> GetResponse:
            begun.append(get_request.key)
            return GetResponse()

    class Followed:
        def __mapping__(self) -> dict[str, Handler]:
            return {PREFIX + "Follow": Handler(self._follow, Cardinality.UNARY_STREAM, Blob, Blob)}

        async def _follow(self, stream: Any) -> None:
            await stream.recv_message()
            begun.append("stream")

    await connect(Recorded(), Followed(), address=MemoryAddress("order"))
    peer = await hand("order")
    flush, peer.flush = peer.flush, lambda: None  # type: ignore[method-assign] # all in one write
    peer.request(PREFIX + "Follow", message(b""))
    (route,) = [route for route in Store().__mapping__() if route.endswith("/Get")]
    call = peer.request(route, message(bytes(GetRequest(key="unary"))))
    peer.flush = flush  # type: ignore[method-assign]
    flush()
    await peer.response(call)
    assert begun == ["stream", "unary"]


# --- what goes wrong for one call --------------------------------------------------------------------------------------


if sys.version_info >= (3, 12):

    async def test_eager_tasks_are_counted_out(connect: Make) -> None:
        """A server on a loop with eager tasks serves for ever."""
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        _, channel = await connect(Store(), limits=Limits(calls_in_flight=10))
        stub = repair_stub(KvStub(channel))
        for number in range(1000):
            try:
                await stub.get(GetRequest(key="x"))
            except SupervisorError as error:
                pytest.fail(f"call {number}: {error!r}")


async def test_cleanup_of_a_handler_is_cancelled_once(connect: Make) -> None:
    """A handler whose call's deadline passed may clean up, though the client then resets the call."""
    cleaned = asyncio.Event()
    twice = asyncio.Event()

    class Careful(ContractService):
        async def _hang(self, stream: Any) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                try:
                    await asyncio.sleep(0.2)
                    cleaned.set()
                except asyncio.CancelledError:
                    twice.set()
                    raise

    _, channel = await connect(Careful())
    with pytest.raises(DeadlineExceededError):
        await call_unary(channel, "Hang", timeout=0.1)
    await asyncio.wait(
        {asyncio.create_task(cleaned.wait()), t := asyncio.create_task(twice.wait())},
        return_when=asyncio.FIRST_COMPLETED,
        timeout=3,
    )
    assert cleaned.is_set()
    assert not twice.is_set()
    t.cancel()


async def test_sending_after_a_reset_fails(raw: Raw) -> None:
    """A sender learns that its call was reset."""
    peer, channel = raw
    with pytest.raises(CallResetError):
        async with channel.request(PREFIX + "Collect", Cardinality.STREAM_UNARY, Blob, Blob) as call:
            await call.send_message(Blob(b"one"))
            stream = await request_of(peer)
            peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
            peer.flush()
            async with asyncio.timeout(5):
                while call.failure is None:
                    await asyncio.sleep(0)
            for _ in range(200):
                await call.send_message(Blob(b"two"))
            pytest.fail("200 messages were sent to nobody")


async def test_sending_after_the_connection_is_lost_fails(connect: Make) -> None:
    """A sender learns that the connection is lost."""
    server, channel = await connect()
    with pytest.raises(ConnectionLostError):
        async with channel.request(PREFIX + "Collect", Cardinality.STREAM_UNARY, Blob, Blob) as call:
            await call.send_message(Blob(b"one"))
            server.abort()
            await asyncio.wait_for(channel.lost.wait(), 2)
            for _ in range(200):
                await call.send_message(Blob(b"two"))
            pytest.fail("200 messages were sent to nobody")


async def test_nothing_is_sent_after_the_status(connect: Make) -> None:
    """A handler that sends after its status is told so, and the peer gets nothing that breaks the rules."""
    told: list[Exception] = []

    class Late(ContractService):
        async def _repeat(self, stream: Any) -> None:
            await stream.recv_message()
            await stream.send_message(Blob(b"one"))
            await stream.send_trailing_metadata()
            try:
                await stream.send_message(Blob(b"two"))
            except SupervisorError as error:
                told.append(error)

    await connect(Late(), address=MemoryAddress("late"))
    peer = await hand("late")
    await peer.response(peer.request(PREFIX + "Repeat", message(b"x")))
    assert told


async def test_nothing_is_sent_after_cancel(raw: Raw) -> None:
    """A caller that sends after it cancelled is told so."""
    _peer, channel = raw
    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"one"))
        await call.cancel()
        with pytest.raises(SupervisorError):
            await call.send_message(Blob(b"two"))


async def test_receive_after_cancel_ends(raw: Raw) -> None:
    """A caller that waits after it cancelled is told so."""
    _peer, channel = raw
    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"one"))
        await call.cancel()
        with pytest.raises(SupervisorError):
            await asyncio.wait_for(call.recv_message(), 1)


async def test_cancelled_receive_loses_no_message(connect: Make) -> None:
    """A message that a cancelled receive did not return is the next one's."""
    _, channel = await connect()
    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        for number in range(60):
            await call.send_message(Blob(b"%d" % number))
        await call.recv_message()
        async with asyncio.timeout(5):
            while len(call.messages) < 59:
                await asyncio.sleep(0)
        seen = [b"0"]
        while len(seen) < 60:
            task = asyncio.create_task(call.recv_message())
            await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                seen.append(task.result().data)
            if seen[-1] == b"59":
                break
        await call.end()
    assert seen == [b"%d" % number for number in range(60)]


async def test_deadline_while_the_reply_waits_for_a_window(connect: Make) -> None:
    """The status says that the deadline passed, wherever the call was at that moment."""
    await connect(address=MemoryAddress("small window"))
    peer = await hand("small window")
    peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    peer.flush()
    stream = peer.h2.get_next_available_stream_id()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": PREFIX + "Echo",
        ":authority": "l",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": "200m",
    }
    peer.h2.send_headers(stream, list(headers.items()))
    peer.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
    peer.h2.send_data(stream, message(b"x" * 10_000), end_stream=True)
    peer.flush()
    response = await peer.response(stream)
    assert response.status == Status.DEADLINE_EXCEEDED.value, (response.status, response.headers)


@pytest.mark.parametrize(
    "error",
    [
        GRPCError(Status.NOT_FOUND, KeyError("an exception, not a text")),  # type: ignore[arg-type]
        GRPCError(Status.NOT_FOUND, "text", details=5),
        GRPCError(5, "a number"),  # type: ignore[arg-type]
    ],
    ids=["message", "details", "status"],
)
async def test_status_that_cannot_be_sent(connect: Make, error: GRPCError) -> None:
    """A status that cannot be sent is the handler's error: UNKNOWN, reported, and nobody's unhandled exception."""

    class Odd(ContractService):
        async def _fail(self, stream: Any) -> None:
            raise error

    _, channel = await connect(Odd())
    with pytest.raises(GRPCError) as caught:
        await call_unary(channel, "Fail")
    assert caught.value.status in {Status.UNKNOWN, Status.NOT_FOUND}, caught.value


async def test_listener_that_raises(connect: Make) -> None:
    """A listener that raises is the handler's error."""
    server, channel = await connect()

    async def hear(event: SendTrailingMetadata) -> None:
        raise ZeroDivisionError

    listen(server, SendTrailingMetadata, hear)
    with pytest.raises(GRPCError) as caught:
        await call_unary(channel, "Echo", b"x")
    assert caught.value.status is Status.UNKNOWN, caught.value


async def test_observer_of_errors_that_raises(errors: list[Any]) -> None:
    """An observer that raises costs nobody his status."""

    def observe(method: str, error: BaseException) -> None:
        raise LookupError

    server = Server([ContractService()], on_error=observe)
    address = await server.start(MemoryAddress("observed"))
    channel = await dial(address, timeout=5)
    try:
        with pytest.raises(GRPCError) as caught:
            await call_unary(channel, "Fail", b"crash:x")
        assert caught.value.status is Status.UNKNOWN
    finally:
        channel.close()
        await channel.wait_closed()
        await server.stop()


async def test_goaway_with_an_error_says_what_was_not_executed(raw: Raw) -> None:
    """A call above the last stream that the peer took is safe to repeat, whatever the reason for the end."""
    peer, channel = raw
    calls = [asyncio.create_task(call_unary(channel, "Hang")) for _ in range(2)]
    await peer.until(lambda: sum(isinstance(event, RequestReceived) for event in peer.events) == 2)
    peer.write(frames.goaway(1, 11))
    await asyncio.wait(calls, timeout=2)
    assert [getattr(call.exception(), "maybe_executed", "?") for call in calls] == [True, False]


async def test_compressed_message_that_is_empty(connect: Make) -> None:
    """A message that is said to be compressed, and is not, is refused by a generated handler too."""
    await connect(Store(), ContractService(), address=MemoryAddress("empty"))
    peer = await hand("empty")
    (route,) = [route for route in Store().__mapping__() if route.endswith("/Get")]
    for path in (PREFIX + "Echo", route):
        for headers in ({}, {"grpc-encoding": "gzip"}):
            response = await peer.response(peer.request(path, message(b"", compressed=True), headers=headers))
            assert response.status != 0, (path, headers)


@pytest.mark.parametrize("one_step", [True, False])
async def test_timeout_without_end(connect: Make, one_step: bool) -> None:
    """`math.inf` is a timeout that never passes, as it is for anyio."""
    _, channel = await connect(Store())
    stub = repair_stub(KvStub(channel)) if one_step else KvStub(channel)
    assert (await stub.get(GetRequest(key="x"), timeout=math.inf)).value == b"x"


async def test_connect_of_grpclib(connect: Make) -> None:
    """Grpclib's way to say "be connected" works on a channel of ours."""
    _, channel = await connect()
    await channel.__connect__()


def test_gzip_in_several_members_is_refused() -> None:
    """What gzip joins is one text (RFC 1952, section 2.2), which no peer sends: it is not cut off after the first."""
    with pytest.raises(ProtocolViolationError, match="more behind the end"):
        unpack(gzip.compress(b"one") + gzip.compress(b"two"), b"gzip", 100)


# --- others -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Plain(betterproto.Message):
    name: str = betterproto.string_field(1)


class Hooked(Plain):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["hooked"] = True


class Validating(Plain):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "name" and value == "bad":
            raise ValueError(value)
        super().__setattr__(name, value)


def test_subclasses_keep_their_hooks() -> None:
    """A class derived from a message's keeps its own hooks when the message's constructor is compiled."""
    assert "hooked" in vars(Hooked(name="x"))
    with pytest.raises(ValueError, match="bad"):
        Validating(name="bad")
    MessageCodec().encode(Plain(name="x"), Plain)
    assert "hooked" in vars(Hooked(name="x"))
    with pytest.raises(ValueError, match="bad"):
        Validating(name="bad")


def test_goaway_is_a_flood() -> None:
    """GOAWAY, again and again, is a flood as others are: each looks at every call."""
    recorder = client(control_burst=100)
    with pytest.raises(FloodError):
        recorder.connection.receive(frames.goaway(2**31 - 1, 0) * 10_000)
