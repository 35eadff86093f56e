"""What the lean engine does beyond the contract: gzip, details of a status, listeners, one-step calls, its own limits."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio  # type: ignore[import-untyped] # grpcio ships no types
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.events import (
    RecvInitialMetadata,
    RecvMessage,
    RecvRequest,
    RecvTrailingMetadata,
    SendInitialMetadata,
    SendMessage,
    SendRequest,
    SendTrailingMetadata,
    listen,
)
from grpclib.exceptions import GRPCError
from kv_proto import GetRequest, GetResponse, KvBase, KvStub

from supervisor.address import MemoryAddress, UnixAddress
from supervisor.errors import (
    CallResetError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    DecodeError,
    MessageTooLargeError,
    ProtocolViolationError,
)
from supervisor.terms import Limits
from supervisor.testing.raw_peer import RawPeer, message
from supervisor.testing.transport_contract import Blob, ContractService, call_stream, call_unary
from supervisor.transport.dial import dial
from supervisor.transport.engine.details import Any as AnyMessage
from supervisor.transport.engine.faults import CallQueueFullError, ErrorCode, FloodError
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.generated import repair_stub
from supervisor.transport.memory import connect_memory
from supervisor.transport.server import Server

PREFIX = "/supervisor.testing.Contract/"
Make = Callable[..., Any]


@pytest.fixture
def engine() -> str:
    """Leave out the other engine."""
    return "lean"


async def test_engine_that_is_none_is_refused(folder: Any) -> None:
    """A name that is no engine's fails before anything is opened."""
    with pytest.raises(ConfigurationError):
        await dial(UnixAddress(str(folder / "s")), timeout=1, engine="fast")  # type: ignore[arg-type] # the mistake
    with pytest.raises(ConfigurationError):
        Server([], engine="fast")  # type: ignore[arg-type] # the same


async def test_gzip_both_ways(connect: Make, service: ContractService) -> None:
    """A call may send gzipped, and a handler reply so; either side unpacks."""

    class Packing(ContractService):
        async def _echo(self, stream: Any) -> None:
            stream.compress()
            await super()._echo(stream)

        async def _repeat(self, stream: Any) -> None:
            stream.compress()
            await super()._repeat(stream)

    _, channel = await connect(Packing())
    for data in (b"", b"x", b"y" * 1_000_000):
        assert await call_unary(channel, "Echo", data, compress=True) == data
    assert await call_stream(channel, "Repeat", [b"50:" + b"z" * 1000], compress=True) == [b"z" * 1000] * 50
    assert await call_stream(channel, "Collect", [b"a", b"b" * 100], compress=True) == [b"a" + b"b" * 100]


async def test_gzip_bomb_is_refused_by_its_size_unpacked(connect: Make) -> None:
    """A small message that unpacks to more than the limit costs the limit, not what it would be."""
    server, _ = await connect(limits=Limits(message_size=10_000), address=MemoryAddress("bomb"))
    peer = RawPeer()
    connect_memory(MemoryAddress("bomb"), peer)
    for body, status in (
        (gzip.compress(b"x" * 10_000), Status.OK),
        (gzip.compress(b"x" * 9_000_000), Status.RESOURCE_EXHAUSTED),
        (gzip.compress(b"x" * 10_000)[:-9], Status.INTERNAL),
        (b"not gzip", Status.INTERNAL),
    ):
        sent = message(body, compressed=True)
        response = await peer.response(peer.request(PREFIX + "Echo", sent, headers={"grpc-encoding": "gzip"}))
        assert response.status == status.value
    assert server.in_flight == 0


async def test_grpcio_exchanges_gzip_with_us(connect: Make, folder: Any) -> None:
    """Grpcio's compressed requests are read, and our compressed replies by it."""

    class Packing(ContractService):
        async def _echo(self, stream: Any) -> None:
            stream.compress()
            await super()._echo(stream)

    await connect(Packing(), address=UnixAddress(str(folder / "zip")))
    async with grpc.aio.insecure_channel(f"unix:{folder / 'zip'}") as channel:
        call = channel.unary_unary(PREFIX + "Echo")(b"x" * 50_000, compression=grpc.Compression.Gzip, timeout=5)
        assert await call == b"x" * 50_000


async def test_details_of_a_status_arrive(connect: Make) -> None:
    """What a handler adds to its status reaches the caller, as the `Any` that google.rpc.Status holds."""

    class Detailed(ContractService):
        async def _fail(self, stream: Any) -> None:
            detail = AnyMessage(type_url="type.googleapis.com/test.Why", value=b"\x08\x01")
            raise GRPCError(Status.FAILED_PRECONDITION, "no", [detail])

    _, channel = await connect(Detailed())
    with pytest.raises(GRPCError) as caught:
        await call_unary(channel, "Fail", b"")
    (detail,) = caught.value.details
    assert (detail.type_url, detail.value) == ("type.googleapis.com/test.Why", b"\x08\x01")


async def test_listeners_hear_and_change(connect: Make) -> None:
    """Grpclib's events are told, on both sides, in order, and what a listener changes holds."""
    server, channel = await connect()
    heard: list[str] = []

    def note(target: Any, kind: Any, act: Callable[[Any], None] = lambda _: None) -> None:
        async def callback(event: Any) -> None:
            heard.append(f"{type(target).__name__}.{type(event).__name__}")
            act(event)

        listen(target, kind, callback)

    note(channel, SendRequest, lambda event: event.metadata.add("token", "t"))
    kinds: tuple[Any, ...] = (SendMessage, RecvInitialMetadata, RecvMessage, RecvTrailingMetadata)
    for kind in kinds:
        note(channel, kind)
    seen: list[Any] = []
    note(server, RecvRequest, lambda event: seen.append((event.metadata["token"], event.method_name)))
    note(server, SendTrailingMetadata, lambda event: event.metadata.add("cost", "1"))
    kinds = (RecvMessage, SendMessage, SendInitialMetadata)
    for kind in kinds:
        note(server, kind)
    async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Blob) as call:
        await call.send_message(Blob(b"x"), end=True)
        assert await call.recv_message() == Blob(b"x")
    assert seen == [("t", PREFIX + "Echo")]
    assert call.trailing_metadata["cost"] == "1"
    own = [name.partition(".")[2] for name in heard if name.startswith("EngineChannel")]
    assert own == ["SendRequest", "SendMessage", "RecvInitialMetadata", "RecvMessage", "RecvTrailingMetadata"]
    theirs = sorted(name.partition(".")[2] for name in heard if name.startswith("Server"))
    assert theirs == ["RecvMessage", "RecvRequest", "SendInitialMetadata", "SendMessage", "SendTrailingMetadata"]


class Store(KvBase):
    """A store that does what its key says."""

    async def get(self, message: GetRequest) -> GetResponse:
        match message.key:
            case "missing":
                raise GRPCError(Status.NOT_FOUND, "no such key")
            case "crash":
                raise ZeroDivisionError
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "wrong":
                return "text"  # type: ignore[return-value] # the mistake that is tested
            case "large":
                return GetResponse(value=b"x" * 1_000_000)
        return GetResponse(value=message.key.encode())


@pytest.fixture(params=["one step", "many steps"])
async def store(request: Any, connect: Make) -> AsyncIterator[Any]:
    """Return a generated stub, as it comes and with its unary calls made in one step."""
    _, channel = await connect(Store(), limits=Limits(message_size=500_000))
    yield KvStub(channel) if request.param == "many steps" else repair_stub(KvStub(channel))
    assert channel.in_flight == 0


async def test_unary_call_in_one_step_is_the_same_call(store: KvStub, errors: list[Any]) -> None:
    """Replies, statuses, limits and deadlines are those of a call made step by step."""
    for data in ("", "key", "k" * 100_000):
        assert (await store.get(GetRequest(key=data))).value == data.encode()
    with pytest.raises(GRPCError) as caught:
        await store.get(GetRequest(key="missing"))
    assert (caught.value.status, caught.value.message) == (Status.NOT_FOUND, "no such key")
    for key in ("crash", "wrong"):
        with pytest.raises(GRPCError) as caught:
            await store.get(GetRequest(key=key))
        assert caught.value.status is Status.UNKNOWN
    assert [type(error).__name__ for _, error in errors] == ["ZeroDivisionError", "EncodeError"]
    with pytest.raises(MessageTooLargeError) as large:
        await store.get(GetRequest(key="large"))
    assert large.value.limit == 500_000
    with pytest.raises(MessageTooLargeError):
        await store.get(GetRequest(key="k" * 600_000))
    for timeout in (0.05, 0.0, -1.0):
        with pytest.raises(DeadlineExceededError):
            await store.get(GetRequest(key="hang"), timeout=timeout)
    replies = await asyncio.gather(*(store.get(GetRequest(key=str(number)), timeout=5) for number in range(500)))
    assert [reply.value for reply in replies] == [b"%d" % number for number in range(500)]


async def test_unary_messages_of_any_size_arrive(store: KvStub) -> None:
    """Written with others, at once, or in pieces: what was sent arrives, also beside other calls."""
    bounds = (16_384, 32_768, 65_536, 131_072, 262_144, 499_000)
    keys = [str(number % 10) * (bound + number) for bound in bounds for number in range(-30, 31, 5)]
    for at in range(0, len(keys), 20):
        some = keys[at : at + 20]
        replies = await asyncio.gather(*(store.get(GetRequest(key=key)) for key in some))
        assert [reply.value for reply in replies] == [key.encode() for key in some]


async def test_unary_call_in_one_step_is_cancelled(store: KvStub) -> None:
    """A caller that is cancelled cancels the call, and the connection goes on."""
    task = asyncio.create_task(store.get(GetRequest(key="hang")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (await store.get(GetRequest(key="next"))).value == b"next"


async def test_unary_calls_in_one_step_end_with_the_connection(connect: Make) -> None:
    """Calls under way and calls that queue fail typed when the connection drops."""
    server, channel = await connect(Store(), limits=Limits(calls_in_flight=2))
    stub = repair_stub(KvStub(channel))
    calls = [asyncio.create_task(stub.get(GetRequest(key="hang"), timeout=30)) for _ in range(5)]
    async with asyncio.timeout(5):
        while server.in_flight < 2:
            await asyncio.sleep(0)
    server.abort()
    await asyncio.wait(calls, timeout=2)
    errors = [call.exception() for call in calls]
    assert [error.maybe_executed for error in errors if isinstance(error, ConnectionLostError)] == [True] * 2 + [
        False
    ] * 3
    with pytest.raises(ConnectionLostError):
        await stub.get(GetRequest(key="late"))


async def test_queue_of_calls_is_bounded(connect: Make, service: ContractService) -> None:
    """One call too many in the queue fails at once and was not executed; the others are served."""
    _, channel = await connect(limits=Limits(calls_in_flight=1))
    channel._wire.settings = WireSettings(calls_in_flight=1, calls_queued=2)
    hanging = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    queued = [asyncio.create_task(call_unary(channel, "Echo", b"%d" % number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(CallQueueFullError) as caught:
        await call_unary(channel, "Echo")
    assert (caught.value.limit, caught.value.maybe_executed) == (2, False)
    hanging.cancel()
    assert await asyncio.gather(*queued) == [b"0", b"1"]


async def test_server_refuses_calls_beyond_its_limit(connect: Make, service: ContractService) -> None:
    """A client that does not keep to the announced limit has its call refused as safe to repeat; the others go on."""
    await connect(limits=Limits(calls_in_flight=1), address=MemoryAddress("one at a time"))
    peer = RawPeer()
    connect_memory(MemoryAddress("one at a time"), peer)
    peer.request(PREFIX + "Hang", message(b""))
    await service.entered.reach(1)
    refused = peer.request(PREFIX + "Echo", message(b""))
    await peer.until(lambda: refused in peer.responses)
    assert peer.responses[refused].reset == ErrorCode.REFUSED_STREAM
    assert not peer.lost


async def test_calls_that_are_reset_count_until_they_have_ended(connect: Make, service: ContractService) -> None:
    """A peer that opens and resets does not have more handlers at work than twice the limit, and a few."""
    server, channel = await connect(limits=Limits(calls_in_flight=2))
    (protocol,) = server._protocols
    protocol.settings = WireSettings(calls_in_flight=2, calls_ending=1)
    protocol.running = 5
    with pytest.raises(CallResetError) as caught:
        await call_unary(channel, "Echo")
    assert (caught.value.code, caught.value.maybe_executed) == ("REFUSED_STREAM", False)
    protocol.running = 0
    assert await call_unary(channel, "Echo", b"x") == b"x"


async def test_flood_ends_the_connection_with_a_typed_error(connect: Make, service: ContractService) -> None:
    """A server that floods its client costs the channel: what is in flight fails with the reason."""
    server, channel = await connect()
    call = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    (protocol,) = server._protocols
    protocol.transport.write(b"\0\0\x08\x06\0\0\0\0\0ABCDEFGH" * 100_000)
    async with asyncio.timeout(5):
        await channel.lost.wait()
    assert isinstance(channel.failure, FloodError)
    with pytest.raises(ProtocolViolationError):
        await call


async def test_peer_that_asks_and_never_reads_is_cut_off(connect: Make) -> None:
    """Replies to a client that does not read are bounded, however many it asks for."""
    server, _ = await connect(address=MemoryAddress("deaf"))
    peer = RawPeer()
    connect_memory(MemoryAddress("deaf"), peer)
    await peer.response(peer.request(PREFIX + "Echo", message(b"x")))
    protocol = next(found for found in server._protocols if found.transport.peer is peer.transport)
    protocol.settings = WireSettings(output_backlog=100_000)
    peer.transport.pause_reading()
    async with asyncio.timeout(10):
        while protocol.failure is None:
            peer.h2.clear_outbound_data_buffer()
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(
                stream, [(":method", "POST"), (":path", "/no/such"), ("te", "trailers")], end_stream=True
            )
            peer.flush()
            await asyncio.sleep(0)
            assert protocol.transport.get_write_buffer_size() < 500_000
    assert isinstance(protocol.failure(), FloodError)


async def test_codec_of_anothers_may_raise_anything(connect: Make) -> None:
    """Whatever a message class raises about its bytes is typed, on both sides."""

    class Picky(Blob):
        @classmethod
        def FromString(cls, data: bytes) -> Blob:  # noqa: N802 - protobuf's name
            raise KeyError(data)

    class Choosy(ContractService):
        def __mapping__(self) -> dict[str, Handler]:
            return {PREFIX + "Echo": Handler(self._echo, Cardinality.UNARY_UNARY, Picky, Blob)}

    _, channel = await connect(Choosy())
    with pytest.raises(GRPCError) as caught:
        await call_unary(channel, "Echo", b"x")
    assert caught.value.status is Status.INTERNAL
    _, channel = await connect(ContractService())
    with pytest.raises(DecodeError):
        async with channel.request(PREFIX + "Echo", Cardinality.UNARY_UNARY, Blob, Picky) as call:
            await call.send_message(Blob(b"x"), end=True)
            await call.recv_message()
    assert await call_unary(channel, "Echo", b"next") == b"next"


async def test_deadline_of_a_request_that_is_not_whole_is_answered(connect: Make) -> None:
    """A unary request of which the rest never comes is answered when its deadline has passed."""
    server, _ = await connect(address=MemoryAddress("half"))
    peer = RawPeer()
    connect_memory(MemoryAddress("half"), peer)
    stream = peer.request(PREFIX + "Echo", message(b"x", size=10), end=False, headers={"grpc-timeout": "50m"})
    response = await peer.response(stream)
    assert response.status == Status.DEADLINE_EXCEEDED.value
    assert server.in_flight == 0


async def test_stop_answers_a_request_that_is_not_whole(connect: Make) -> None:
    """`stop` counts a call whose request has begun, and answers it."""
    server, _ = await connect(address=MemoryAddress("begun"))
    peer = RawPeer()
    connect_memory(MemoryAddress("begun"), peer)
    stream = peer.request(PREFIX + "Echo", message(b"x", size=10), end=False)
    async with asyncio.timeout(2):
        while not server.in_flight:
            await asyncio.sleep(0)
    assert await server.stop(grace=0.05) == 1
    assert peer.responses[stream].status == Status.UNAVAILABLE.value
