"""What a client may send, and what the server makes of it: an answer, and no harm to other calls."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, PriorityFrame

from supervisor.address import MemoryAddress
from supervisor.errors import MessageTooLargeError
from supervisor.terms import Limits
from supervisor.testing.raw_peer import RawPeer, message
from supervisor.testing.transport_contract import Blob, ContractService, call_unary
from supervisor.transport.channel import Channel
from supervisor.transport.memory import connect_memory
from supervisor.transport.server import Server, current_call

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]
PREFIX = "/supervisor.testing.Contract/"
LIMITS = Limits(message_size=100_000, calls_in_flight=10)


@pytest.fixture
async def client(service: ContractService, errors: list[Any], engine: str) -> AsyncIterator[RawPeer]:
    """Return a client by hand, connected to the contract's servicer."""
    server = Server([service], limits=LIMITS, on_error=lambda method, error: errors.append((method, error)))
    address = await server.start(MemoryAddress("raw"))
    assert isinstance(address, MemoryAddress)
    peer = RawPeer()
    connect_memory(address, peer)
    yield peer
    await server.stop()


async def _assert_serves(client: RawPeer) -> None:
    """The connection still answers."""
    response = await client.response(client.request(PREFIX + "Echo", message(b"next")))
    assert (response.status, response.data) == (0, message(b"next"))


REFUSED = {
    "unknown method": ({":path": "/no.Such/Method"}, Status.UNIMPLEMENTED, "200"),
    "no path": ({":path": ""}, Status.UNIMPLEMENTED, "200"),
    "GET": ({":method": "GET"}, Status.INTERNAL, "405"),
    "no content-type": ({"content-type": ""}, Status.INTERNAL, "415"),
    "json": ({"content-type": "application/grpc+json"}, Status.INTERNAL, "415"),
    "no te": ({"te": ""}, Status.INTERNAL, "400"),
    "malformed -bin": ({"x-bin": "A"}, Status.INTERNAL, "200"),
    "-bin that is not ASCII": ({"x-bin": "\xff"}, Status.INTERNAL, "200"),
    "malformed timeout": ({"grpc-timeout": "soon"}, Status.INTERNAL, "200"),
    "snappy": ({"grpc-encoding": "snappy"}, Status.UNIMPLEMENTED, "200"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_request_that_cannot_be_served_is_answered(
    client: RawPeer, case: tuple[dict[str, str], Status, str]
) -> None:
    """Bad headers get a status with a content-type, and the connection goes on."""
    headers, status, http_status = case
    response = await client.response(client.request(PREFIX + "Echo", message(b"x"), headers=headers))
    assert (response.status, response.headers[":status"]) == (status.value, http_status)
    assert response.headers["content-type"] == "application/grpc"
    await _assert_serves(client)


BODIES = {
    "compressed": (message(zlib.compress(b"x"), compressed=True), Status.UNIMPLEMENTED),
    "too large": (message(b"x" * 10, size=100_001), Status.RESOURCE_EXHAUSTED),
    "4 GiB": (message(b"", size=2**32 - 1), Status.RESOURCE_EXHAUSTED),
    "cut in the message": (message(b"abc", size=100), Status.INTERNAL),
    "cut in the prefix": (b"\0\0\0", Status.INTERNAL),
    "prefix alone": (message(b"", size=7), Status.INTERNAL),
}


@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
async def test_message_that_cannot_be_read_is_answered(client: RawPeer, case: tuple[bytes, Status]) -> None:
    """A bad message gets a status, not a traceback, and the connection goes on."""
    body, status = case
    response = await client.response(client.request(PREFIX + "Echo", body))
    assert response.status == status.value
    await _assert_serves(client)


async def test_refusal_of_a_large_message_says_the_limit(client: RawPeer) -> None:
    """Size and limit come as trailers, so that a client can tell them without reading prose."""
    response = await client.response(client.request(PREFIX + "Echo", message(b"", size=100_001)))
    assert (response.headers["x-message-size"], response.headers["x-message-limit"]) == ("100001", "100000")


async def test_refusal_of_a_large_message_is_typed(connect: Connect) -> None:
    """A client with a larger limit than the server's gets `MessageTooLargeError` from the server's refusal."""
    _, channel = await connect(limits=Limits(message_size=1000), client=Limits())
    with pytest.raises(MessageTooLargeError) as caught:
        await call_unary(channel, "Echo", b"x" * 300_000)
    assert (caught.value.size, caught.value.limit) == (300_000, 1000)
    assert await call_unary(channel, "Echo", b"next") == b"next"


async def test_reply_over_the_servers_limit_is_typed(connect: Connect) -> None:
    """A handler whose reply is over the server's limit gives the client the size and the limit."""

    class Large(ContractService):
        async def _echo(self, stream: Any) -> None:
            await stream.recv_message()
            await stream.send_message(Blob(b"x" * 2000))

    _, channel = await connect(Large(), limits=Limits(message_size=1000), client=Limits())
    with pytest.raises(MessageTooLargeError) as caught:
        await call_unary(channel, "Echo")
    assert (caught.value.size, caught.value.limit) == (2000, 1000)


async def test_reply_over_the_clients_limit_is_not_read(connect: Connect) -> None:
    """A client refuses a large reply by its prefix, ends that call and goes on; what came before it is delivered."""

    class Growing(ContractService):
        async def _repeat(self, stream: Any) -> None:
            await stream.recv_message()
            for size in (10, 1000, 1001, 10):
                await stream.send_message(Blob(b"x" * size))

    _, channel = await connect(Growing(), client=Limits(message_size=1000))
    with pytest.raises(MessageTooLargeError) as caught:
        async with channel.request(PREFIX + "Repeat", Cardinality.UNARY_STREAM, Blob, Blob) as call:
            await call.send_message(Blob(), end=True)
            for size in (10, 1000):
                assert await call.recv_message() == Blob(b"x" * size)
            await call.recv_message()
    assert (caught.value.size, caught.value.limit) == (1001, 1000)
    assert await call_unary(channel, "Echo", b"next") == b"next"


async def test_frames_without_meaning_are_ignored(client: RawPeer) -> None:
    """Empty DATA, PRIORITY and frames of unknown types neither end the call nor the connection."""
    stream = client.request(PREFIX + "Echo", b"", end=False)
    client.frame(DataFrame(stream, b""))
    client.write(b"\0\0\x04\xbe\0" + stream.to_bytes(4, "big") + b"what")
    client.frame(PriorityFrame(stream, depends_on=0, stream_weight=5))
    client.h2.send_data(stream, message(b"hel", size=5))
    client.flush()
    client.frame(DataFrame(stream, b""))
    client.h2.send_data(stream, b"lo", end_stream=True)
    client.flush()
    response = await client.response(stream)
    assert (response.status, response.data) == (0, message(b"hello"))


async def test_client_that_goes_away_gracefully_gets_its_answer(client: RawPeer) -> None:
    """A GOAWAY from the client ends no call that is under way."""
    stream = client.request(PREFIX + "Echo", message(b"bye"), end=False)
    client.frame(GoAwayFrame(0, last_stream_id=0, error_code=0))
    client.h2.end_stream(stream)
    client.flush()
    response = await client.response(stream)
    assert (response.status, response.data) == (0, message(b"bye"))


async def test_client_that_still_sends_is_told_to_stop(client: RawPeer) -> None:
    """A server that has answered a call whose client still sends resets it, with no error."""
    stream = client.request(PREFIX + "Relay", message(b"stop"), end=False)
    response = await client.response(stream)
    await client.until(lambda: response.reset is not None)
    assert (response.status, response.reset) == (0, ErrorCodes.NO_ERROR)
    await _assert_serves(client)


async def test_one_stream_too_many_is_refused_alone(client: RawPeer, service: ContractService) -> None:
    """A client that opens more streams than were offered loses those, not the connection."""
    streams = [client.request(PREFIX + "Hang", message(b"")) for _ in range(10)]
    await service.entered.reach(10)
    refused = await client.response(client.request(PREFIX + "Echo", message(b"x")))
    assert refused.reset == ErrorCodes.REFUSED_STREAM
    client.h2.reset_stream(streams[0], ErrorCodes.CANCEL)
    client.flush()
    await _assert_serves(client)


async def test_flood_of_resets_is_refused_in_the_end(client: RawPeer) -> None:
    """A client that opens and resets streams faster than handlers end is refused; the server's tasks are bounded."""
    for _ in range(500):
        stream = client.request(PREFIX + "Hang", message(b""))
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    refused = client.request(PREFIX + "Echo", message(b"x"))
    answering, tasks = asyncio.create_task(client.response(refused)), 0
    while not answering.done():
        tasks = max(tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
    assert (await answering).reset == ErrorCodes.REFUSED_STREAM
    assert tasks < 150
    await _assert_serves(client)


@pytest.mark.parametrize("junk", [b"\x00" * 9 + b"\xff" * 200, b"\x00\x00\x01\x01\x05\x00\x00\x00\x09\xff"])
async def test_broken_http2_ends_that_connection_only(
    client: RawPeer, service: ContractService, junk: bytes, errors: list[Any]
) -> None:
    """A client that breaks HTTP/2 is cut off and its handlers are cancelled; the loop has nothing to log."""
    client.request(PREFIX + "Hang", message(b""))
    await service.entered.reach(1)
    client.write(junk)
    await client.until(lambda: client.lost)
    await service.cancelled.reach(1)
    assert errors == []


async def test_handler_knows_its_call(connect: Connect) -> None:
    """`current_call` tells a handler that sees only the message: route, metadata, deadline and peer."""
    seen: dict[str, Any] = {}

    class Curious:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/test.Curious/Look": Handler(self._look, Cardinality.UNARY_UNARY, Blob, Blob)}

        async def _look(self, stream: Any) -> None:
            call = current_call()
            assert call.deadline is not None
            seen.update(method=call.method, token=call.metadata["token"], left=call.deadline.time_remaining())
            await call.stream.send_initial_metadata(metadata={"seen": "yes"})
            await stream.send_message(await stream.recv_message())

    with pytest.raises(LookupError):
        current_call()
    _, channel = await connect(Curious())
    options: dict[str, Any] = {"timeout": 20, "metadata": {"token": "t"}}
    async with channel.request("/test.Curious/Look", Cardinality.UNARY_UNARY, Blob, Blob, **options) as call:
        await call.send_message(Blob(b"x"), end=True)
        await call.recv_message()
    assert (seen["method"], seen["token"]) == ("/test.Curious/Look", "t")
    assert 19 < seen["left"] <= 20
    assert call.initial_metadata is not None
    assert call.initial_metadata["seen"] == "yes"


async def test_handler_that_breaks_the_rules_is_told_of(connect: Connect, errors: list[Any]) -> None:
    """A unary handler that answers twice, or not at all, gives its client UNKNOWN and its author the reason."""

    class Wrong(ContractService):
        async def _echo(self, stream: Any) -> None:
            request = await stream.recv_message()
            for _ in range(int(request.data)):
                await stream.send_message(request)

    _, channel = await connect(Wrong())
    for count in (b"0", b"2"):
        with pytest.raises(GRPCError) as caught:
            await call_unary(channel, "Echo", count)
        assert caught.value.status is Status.UNKNOWN
    assert [type(error).__name__ for _, error in errors] == ["ProtocolViolationError"] * 2
