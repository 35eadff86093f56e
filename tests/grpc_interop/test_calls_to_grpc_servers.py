"""Our client and the servers of grpcio (threads and asyncio), grpclib and grpc-go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_peer import CANCELLED, KINDS, ROUTE, pattern, summary
from grpc_processes import SERVERS, SIZES, PeerServer, serving
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import CallResetError, ConnectionLostError, DeadlineExceededError, MessageTooLargeError
from supervisor.spec import Limits
from supervisor.testing.transport_contract import Blob
from supervisor.transport.engine.channel import EngineChannel
from supervisor.transport.engine.details import Any as AnyMessage
from supervisor.transport.engine.faults import MetadataTooLargeError

KIB, MIB = 1 << 10, 1 << 20
LARGE = (4 * MIB, 32 * MIB)

Connect = Callable[..., Any]

tokens = (b"to-%d" % number for number in itertools.count())


def request(channel: EngineChannel, method: str, **options: Any) -> Any:
    """Prepare a call."""
    return channel.request(ROUTE + method, KINDS[method], Blob, Blob, **options)


async def ask(channel: EngineChannel, method: str, data: bytes = b"", **options: Any) -> bytes:
    """Make a unary call in one step, as stubs do."""
    if options.pop("step", False):
        async with request(channel, method, **options) as call:
            await call.send_message(Blob(data), end=True)
            reply = await call.recv_message()
    else:
        reply = await channel.unary(ROUTE + method, Blob(data), Blob, **options)
    found: bytes = reply.data
    return found


async def pull(channel: EngineChannel, method: str, messages: list[bytes], **options: Any) -> list[bytes]:
    """Make a streaming call: all requests, then all replies."""
    async with request(channel, method, **options) as call:
        await call.send_request()
        for message in messages:
            await call.send_message(Blob(message))
        if KINDS[method].client_streaming:
            await call.end()
        return [reply.data async for reply in call]


async def exchange(channel: EngineChannel, method: str, size: int) -> None:
    """Send and receive messages of a size, by one kind of call."""
    data, count = pattern(size), 3 if size <= 64 * KIB else 2
    match method:
        case "Echo":
            assert await ask(channel, "Echo", data) == data
        case "Down":
            assert await pull(channel, "Down", [b"%d:%d" % (count, size)]) == [data] * count
        case "Up":
            assert await pull(channel, "Up", [data] * count) == [summary([data] * count)]
        case "Relay":
            async with request(channel, "Relay") as call:
                for _ in range(count):
                    await call.send_message(Blob(data))
                    assert (await call.recv_message()).data == data
                await call.end()
                assert await call.recv_message() is None


@pytest.mark.parametrize("method", ["Echo", "Down", "Up", "Relay"])
@pytest.mark.parametrize(("transport", "size"), SIZES)
@pytest.mark.parametrize("server", SERVERS)
async def test_every_kind_and_size(connect: Connect, server: str, transport: str, method: str, size: int) -> None:
    """Messages of any size arrive whole, both ways, by every kind of call and on every transport."""
    await exchange(await connect(server, transport), method, size)


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("method", ["Echo", "Down", "Up"])
@pytest.mark.parametrize("server", SERVERS)
async def test_large_messages(connect: Connect, server: str, method: str, size: int) -> None:
    """So do large ones, many times the windows."""
    if size > 4 * MIB and (method, server) not in {
        ("Echo", "go"),
        ("Down", "grpcio"),
        ("Up", "grpcio-aio"),
        ("Up", "go"),
    }:
        size = 5 * MIB
    channel = await connect(server)
    await (exchange(channel, method, size) if method != "Down" else pull_one(channel, size))


async def pull_one(channel: EngineChannel, size: int) -> None:
    """Receive one message."""
    assert await pull(channel, "Down", [b"1:%d" % size]) == [pattern(size)]


@pytest.mark.parametrize("server", SERVERS)
async def test_streams_of_many_messages(connect: Connect, server: str) -> None:
    """Thousands of small messages arrive in order, both ways."""
    channel = await connect(server)
    assert await pull(channel, "Down", [b"3000:100"]) == [pattern(100)] * 3000
    parts = [b"%d" % number for number in range(3000)]
    assert await pull(channel, "Up", parts) == [summary(parts)]
    assert await pull(channel, "Up", []) == [summary([])]
    assert await pull(channel, "Down", [b"0:0"]) == []


# --- statuses ----------------------------------------------------------------------------------------------------------


def details() -> bytes:
    """Return a `google.rpc.Status` with two details."""
    first = b"\x0a\x0atype/First\x12\x03one"
    second = b"\x0a\x0btype/Second\x12\x00"
    text = "nöt".encode()
    return (
        b"\x08\x05\x12"
        + bytes([len(text)])
        + text
        + b"".join(b"\x1a%c%b" % (len(any_), any_) for any_ in (first, second))
    )


TEXTS = {
    "plain": "no such thing",
    "empty": "",
    "percent": "100% of %41 %zz",
    "UTF-8": "nöt föund: 見つからない 🦀",
    "control": "a\r\nb\tc\x7f",
    "long": "x" * 3000,
}


@pytest.mark.parametrize("step", [False, True], ids=["one-step", "stepwise"])
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
@pytest.mark.parametrize("server", SERVERS)
async def test_each_status(connect: Connect, server: str, status: Status, step: bool) -> None:
    """Each status arrives as itself, in trailers alone, and the connection goes on."""
    channel = await connect(server)
    with pytest.raises(GRPCError) as caught:
        await ask(channel, "Fail", json.dumps({"code": status.value, "message": "why"}).encode(), step=step)
    assert (caught.value.status, caught.value.message) == (status, "why")
    assert await ask(channel, "Echo", b"next") == b"next"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("server", SERVERS)
async def test_texts_of_statuses(connect: Connect, server: str, text: str) -> None:
    """What a status says arrives as it was, whatever characters it has."""
    channel = await connect(server)
    with pytest.raises(GRPCError) as caught:
        await ask(channel, "Fail", json.dumps({"code": 5, "message": text}).encode())
    assert (caught.value.message or "") == text


@pytest.mark.parametrize("server", SERVERS)
async def test_details_of_statuses(connect: Connect, server: str) -> None:
    """The details of a status arrive."""
    channel = await connect(server)
    said = {"code": 5, "message": "nöt", "details": base64.b64encode(details()).decode()}
    with pytest.raises(GRPCError) as caught:
        await ask(channel, "Fail", json.dumps(said).encode())
    assert (caught.value.status, caught.value.message) == (Status.NOT_FOUND, "nöt")
    found: list[AnyMessage] = caught.value.details
    assert [(each.type_url, each.value) for each in found] == [("type/First", b"one"), ("type/Second", b"")]


@pytest.mark.parametrize("server", SERVERS)
async def test_status_in_mid_stream(connect: Connect, server: str) -> None:
    """A status after headers and messages arrives after the messages."""
    channel = await connect(server)
    async with asyncio.timeout(5):
        received = []
        with pytest.raises(GRPCError) as caught:
            async with request(channel, "Relay") as call:
                for data in (b"a", b"b", b"fail"):
                    await call.send_message(Blob(data))
                received += [reply.data async for reply in call]  # pragma: no branch
    assert (caught.value.status, caught.value.message) == (Status.ABORTED, "enough")
    assert set(received) <= {b"a", b"b"}


@pytest.mark.parametrize("server", SERVERS)
async def test_method_that_is_none(connect: Connect, server: str) -> None:
    """A method that nobody serves is answered UNIMPLEMENTED, and the connection goes on."""
    channel = await connect(server)
    with pytest.raises(GRPCError) as caught:
        await channel.unary(ROUTE + "Nothing", Blob(), Blob)
    assert caught.value.status is Status.UNIMPLEMENTED
    assert await ask(channel, "Echo", b"next") == b"next"


# --- metadata ----------------------------------------------------------------------------------------------------------

METADATA: dict[str, list[tuple[str, Any]]] = {
    "none": [],
    "one": [("x-a", "value")],
    "binary": [("x-a-bin", b"\x00\xff\x80binary"), ("x-b-bin", b"")],
    "every byte": [("x-a-bin", bytes(range(256)))],
    "paddings": [(f"x-{size}-bin", b"\xfe" * size) for size in range(1, 6)],
    "duplicates": [("x-a", "one"), ("x-a", "two"), ("x-b-bin", b"1"), ("x-b-bin", b"2")],
    "long": [("x-a", "v" * 4000), ("x-b-bin", b"\x01" * 2000)],
    "many": [(f"x-key-{number}", f"value {number}") for number in range(100)],
    "odd characters": [("x-a_b.c-0", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")],
    "length of 127": [("x-a", "v" * 127), ("x-" + "n" * 125, "v")],
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("server", SERVERS)
async def test_metadata(connect: Connect, server: str, metadata: list[tuple[str, Any]]) -> None:
    """What we send, the peer sends back, in its headers and in its trailers."""
    channel = await connect(server)
    async with request(channel, "Echo", metadata=metadata) as call:
        await call.send_message(Blob(b"x"), end=True)
        assert (await call.recv_message()).data == b"x"
        await call.recv_trailing_metadata()
    for found in (call.initial_metadata, call.trailing_metadata):
        back = [(key, value) for key, value in (found or {}).items() if key.startswith("x-")]
        # Between keys the order is nobody's promise; among the values of one it is.
        assert sorted(back, key=lambda field: field[0]) == sorted(metadata, key=lambda field: field[0])


@pytest.mark.parametrize("server", SERVERS)
async def test_metadata_that_changes_from_call_to_call(connect: Connect, server: str) -> None:
    """Header compression keeps in step over hundreds of calls whose headers differ and repeat."""
    channel = await connect(server)
    for number in range(150):
        metadata = [("x-a", "same"), ("x-b", str(number % 7)), (f"x-{number % 40}", "v" * (1 + number % 50))]
        async with request(channel, "Echo", metadata=metadata, timeout=10 + number % 3) as call:
            await call.send_message(Blob(b"x"), end=True)
            await call.recv_message()
            await call.recv_trailing_metadata()
        assert call.trailing_metadata is not None
        assert call.trailing_metadata["x-b"] == str(number % 7)


# --- deadlines and cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
async def test_deadline_is_sent(connect: Connect, server: str) -> None:
    """The peer knows how long there is, in any unit."""
    channel = await connect(server)
    assert await ask(channel, "Left") == b"none"
    for timeout in (0.9, 5, 70, 5000, 400_000):
        left = int(await ask(channel, "Left", timeout=timeout))
        assert timeout * 1000 * 0.5 - 500 <= left <= timeout * 1000 * 1.02 + 1


@pytest.mark.parametrize("method", ["Hang", "Follow"])
@pytest.mark.parametrize("server", SERVERS)
async def test_deadline_passes(connect: Connect, server: str, method: str) -> None:
    """A deadline that passes ends the call here and its handler there, and the connection goes on."""
    channel, token = await connect(server), next(tokens)
    with pytest.raises(DeadlineExceededError):
        if method == "Hang":
            await ask(channel, "Hang", token, timeout=0.1)
        else:
            await pull(channel, "Follow", [token], timeout=0.1)
    assert await ask(channel, "Ended", token) == CANCELLED


@pytest.mark.parametrize("server", SERVERS)
async def test_cancellation_of_a_unary_call(connect: Connect, server: str) -> None:
    """A caller that is cancelled cancels the peer's handler, and the connection goes on."""
    channel, token = await connect(server), next(tokens)
    calling = asyncio.create_task(ask(channel, "Hang", token))
    await asyncio.sleep(0)  # it is sent first
    for _ in range(3):
        assert await ask(channel, "Echo", b"before") == b"before"
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await ask(channel, "Ended", token) == CANCELLED


@pytest.mark.parametrize("server", SERVERS)
async def test_cancellation_in_mid_stream(connect: Connect, server: str) -> None:
    """A stream that is left in the middle is cancelled there."""
    channel, token = await connect(server), next(tokens)
    async with request(channel, "Follow") as call:
        await call.send_message(Blob(token))
        assert (await call.recv_message()).data == b"begun"
        await call.cancel()
    assert await ask(channel, "Ended", token) == CANCELLED


@pytest.mark.parametrize("server", SERVERS)
async def test_response_that_is_left_unread(connect: Connect, server: str) -> None:
    """A long response that is left after its first message holds nobody up, again and again."""
    channel = await connect(server)
    for _ in range(5):
        async with request(channel, "Down") as call:
            await call.send_message(Blob(b"1000:30000"), end=True)
            assert (await call.recv_message()).data == pattern(30_000)
            await call.cancel()
        assert await ask(channel, "Echo", pattern(100_000)) == pattern(100_000)


@pytest.mark.parametrize("server", SERVERS)
async def test_stream_that_is_not_read_holds_nobody_up(connect: Connect, server: str) -> None:
    """Calls go on beside a response that waits to be read."""
    channel = await connect(server)
    async with request(channel, "Down") as call:
        await call.send_message(Blob(b"300:30000"), end=True)
        await call.recv_message()
        for _ in range(5):
            assert await ask(channel, "Echo", pattern(100_000)) == pattern(100_000)
        assert len([reply async for reply in call]) == 299


@pytest.mark.parametrize("server", SERVERS)
async def test_server_that_ends_first(connect: Connect, server: str) -> None:
    """A server that has heard enough ends the call, while we still send."""
    channel = await connect(server)
    async with asyncio.timeout(10), request(channel, "Relay") as call:
        await call.send_message(Blob(b"a"))
        assert (await call.recv_message()).data == b"a"
        await call.send_message(Blob(b"stop"))
        for _ in range(200):
            await call.send_message(Blob(pattern(20_000)))
        assert await call.recv_message() is None
    assert await ask(channel, "Echo", b"next") == b"next"


@pytest.mark.parametrize("server", SERVERS)
async def test_half_close(connect: Connect, server: str) -> None:
    """The response goes on after our end of the request."""
    channel = await connect(server)
    async with request(channel, "Relay") as call:
        for _ in range(20):
            await call.send_message(Blob(pattern(100)))
        await call.end()
        assert [reply.data async for reply in call] == [pattern(100)] * 20


# --- compression -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 100_000, MIB])
@pytest.mark.parametrize("server", ["grpcio", "grpcio-aio", "go"])
async def test_gzip_both_ways(connect: Connect, server: str, size: int) -> None:
    """Gzipped requests are read by the peer, and we read its gzipped replies."""
    channel = await connect(server)
    async with request(channel, "Echo", compress=True, metadata=[("x-zip", "1")]) as call:
        await call.send_message(Blob(pattern(size)), end=True)
        assert (await call.recv_message()).data == pattern(size)
    assert (b"grpc-encoding", b"gzip") in call.headers.fields
    assert await ask(channel, "Echo", pattern(size), metadata=[("x-zip", "1")]) == pattern(size)
    parts = [pattern(size)] * 3
    assert await pull(channel, "Up", parts, compress=True) == [summary(parts)]


async def test_gzip_to_a_peer_that_takes_none(connect: Connect) -> None:
    """Grpclib knows no compression: the call fails with a status, and the connection goes on."""
    channel = await connect("grpclib")
    with pytest.raises(GRPCError):
        async with request(channel, "Echo", compress=True) as call:
            await call.send_message(Blob(b"x" * 100), end=True)
            await call.recv_message()
    assert await ask(channel, "Echo", b"next") == b"next"


# --- limits, and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
async def test_more_calls_than_the_peer_takes(connect: Connect, server: str) -> None:
    """Calls beyond the peer's limit wait for their turn; unary ones that it refuses nevertheless are made again."""
    channel = await connect(server, "few")
    replies = await asyncio.gather(*(ask(channel, "Echo", b"%d" % number) for number in range(500)))
    assert replies == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("server", SERVERS)
async def test_more_streams_than_the_peer_takes(connect: Connect, server: str) -> None:
    """So do streams; what grpcio refuses, which counts a stream for a moment longer than we, was not executed."""
    channel = await connect(server, "few")
    streams = await asyncio.gather(
        *(pull(channel, "Relay", [b"%d" % number]) for number in range(150)), return_exceptions=True
    )
    for number, found in enumerate(streams):
        if isinstance(found, CallResetError) and server.startswith("grpcio"):
            assert (found.code, found.maybe_executed) == ("REFUSED_STREAM", False)
        else:
            assert found == [b"%d" % number]


@pytest.mark.parametrize("server", SERVERS)
async def test_reply_over_our_limit(connect: Connect, server: str) -> None:
    """A reply that is larger than we take is refused by its prefix, and the connection goes on."""
    channel = await connect(server, limits=Limits(message_size=10_000))
    with pytest.raises(MessageTooLargeError):
        await pull(channel, "Down", [b"1:3000000"])
    assert await ask(channel, "Echo", b"next") == b"next"


@pytest.mark.parametrize("server", ["grpcio", "grpcio-aio", "go"])
async def test_headers_over_the_limit_of_the_peer(connect: Connect, server: str) -> None:
    """Metadata over the limit that the peer has announced fail the call before it is sent, and the connection goes on."""
    channel = await connect(server, "few")
    assert await ask(channel, "Echo", b"first") == b"first"
    with pytest.raises(MetadataTooLargeError) as caught:
        await ask(channel, "Echo", metadata=[("x-a", "v" * 8000)])
    assert caught.value.limit == 8192
    assert await ask(channel, "Echo", b"next", metadata=[("x-a", "v" * 3000)]) == b"next"


@pytest.fixture
def fresh(secrets: Path, go_peer: Callable[[], Path]) -> Iterator[Callable[[str], PeerServer]]:
    """Return a function that starts a server for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(serving(name, secrets, go_peer))


@pytest.mark.parametrize("server", ["grpcio", "grpcio-aio", "go"])
async def test_graceful_stop_of_the_peer(connect: Connect, fresh: Callable[[str], PeerServer], server: str) -> None:
    """A server that shuts down finishes the call that is under way; new ones fail unexecuted."""
    peer = fresh(server)
    channel = await connect(peer)
    async with asyncio.timeout(10), request(channel, "Relay") as call:
        await call.send_message(Blob(b"one"))
        assert (await call.recv_message()).data == b"one"
        peer.say("drain")
        while not channel.is_draining:
            await asyncio.sleep(0.001)
        await call.send_message(Blob(b"two"))
        assert (await call.recv_message()).data == b"two"
        with pytest.raises(ConnectionLostError) as caught:
            await ask(channel, "Echo")
        assert not caught.value.maybe_executed
        await call.end()
        assert await call.recv_message() is None
    async with asyncio.timeout(5):
        await channel.lost.wait()
