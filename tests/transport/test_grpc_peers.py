"""Stock peers, both ways: grpcio (aio and sync) and grpclib, over a unix socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped] # the same
import grpclib.client
import grpclib.server
import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from supervisor.address import UnixAddress
from supervisor.errors import ConnectionLostError, DeadlineExceededError
from supervisor.testing.transport_contract import Blob, ContractService, call_stream, call_unary
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.server import Server

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]
pytestmark = pytest.mark.usefixtures("engine")
PREFIX = "/supervisor.testing.Contract/"


@pytest.fixture
async def errors() -> list[Any]:
    """Take the place of the stricter one: grpcio's poller tells this loop of loops that earlier tests have closed."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    return []


@pytest.fixture
async def target(connect: Connect, folder: Path) -> str:
    """Return the address of a server of ours, as grpcio writes it."""
    path = folder / "ours"
    await connect(address=UnixAddress(str(path)))
    return f"unix:{path}"


@pytest.fixture
async def aio(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """Return a channel of grpcio's to it."""
    async with grpc.aio.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


async def test_grpcio_aio_client(aio: grpc.aio.Channel) -> None:
    """All four kinds of call, 5 MiB, metadata and statuses, from grpcio's asyncio client."""
    assert await aio.unary_unary(PREFIX + "Echo")(b"hello") == b"hello"
    assert len(await aio.unary_unary(PREFIX + "Echo")(b"x" * (5 << 20))) == 5 << 20
    assert [reply async for reply in aio.unary_stream(PREFIX + "Repeat")(b"1000:x")] == [b"x"] * 1000
    assert await aio.stream_unary(PREFIX + "Collect")(iter([b"a", b"b", b"c"])) == b"abc"
    assert [reply async for reply in aio.stream_stream(PREFIX + "Relay")(iter([b"a", b"b"]))] == [b"a", b"b"]
    # Written by hand: grpcio's own loop over requests fails, with its own server too, when the server ends first.
    relay = aio.stream_stream(PREFIX + "Relay")()
    await relay.write(b"a")
    assert await relay.read() == b"a"
    await relay.write(b"stop")
    assert await relay.read() is grpc.aio.EOF
    assert await relay.code() is grpc.StatusCode.OK
    call = aio.unary_unary(PREFIX + "Headers")(b"x", metadata=[("some-bin", b"\0\xff")])
    assert await call == b"x"
    assert ("initial-bin", b"\0\xff") in list(await call.initial_metadata())
    assert ("trailing-bin", b"\xfe\0\1") in list(await call.trailing_metadata())


@pytest.mark.parametrize(
    ("method", "request_data", "code"),
    [
        ("Fail", "5:nöt".encode(), grpc.StatusCode.NOT_FOUND),
        ("Fail", b"crash:x", grpc.StatusCode.UNKNOWN),
        ("Nothing", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("Hang", b"", grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_grpcio_aio_client_gets_statuses(
    aio: grpc.aio.Channel, method: str, request_data: bytes, code: grpc.StatusCode
) -> None:
    """Grpcio's client sees the status that was meant."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await aio.unary_unary(PREFIX + method)(request_data, timeout=0.3)
    assert caught.value.code() is code


async def test_grpcio_aio_client_with_gzip(aio: grpc.aio.Channel, engine: str) -> None:
    """A compressed request is served, or answered UNIMPLEMENTED, and the connection goes on."""
    call = aio.unary_unary(PREFIX + "Echo")(b"x" * 5000, compression=grpc.Compression.Gzip)
    if engine == "lean":
        assert await call == b"x" * 5000
    else:
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    assert await aio.unary_unary(PREFIX + "Echo")(b"next") == b"next"


async def test_grpcio_aio_client_that_cancels(aio: grpc.aio.Channel, service: ContractService) -> None:
    """A cancelled call of grpcio's cancels our handler."""
    call = aio.unary_unary(PREFIX + "Hang")(b"")
    await service.entered.reach(1)
    call.cancel()
    await service.cancelled.reach(1)


async def test_grpcio_aio_client_under_a_stop(folder: Path, service: ContractService) -> None:
    """A stop lets grpcio's call finish, and answers one that outlasts it UNAVAILABLE."""
    server = Server([service])
    await server.start(UnixAddress(str(folder / "stop")))
    async with grpc.aio.insecure_channel(f"unix:{folder / 'stop'}") as channel:
        relay = channel.stream_stream(PREFIX + "Relay")()
        await relay.write(b"one")
        assert await relay.read() == b"one"
        hanging = channel.unary_unary(PREFIX + "Hang")(b"")
        await service.entered.reach(1)
        stopping = asyncio.create_task(server.stop(1.0))
        await relay.write(b"two")
        assert await relay.read() == b"two"
        await relay.done_writing()
        assert await relay.read() is grpc.aio.EOF
        assert await stopping == 1
        assert await hanging.code() is grpc.StatusCode.UNAVAILABLE


def test_grpcio_sync_client(folder: Path) -> None:
    """Grpcio's blocking client, from another thread than our server's loop."""

    def talk() -> None:
        with grpc.insecure_channel(f"unix:{folder / 'sync'}") as channel:
            assert channel.unary_unary(PREFIX + "Echo")(b"hello", timeout=5) == b"hello"
            assert list(channel.unary_stream(PREFIX + "Repeat")(b"50:x", timeout=5)) == [b"x"] * 50
            assert list(channel.stream_stream(PREFIX + "Relay")(iter([b"a", b"b"]), timeout=5)) == [b"a", b"b"]
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(PREFIX + "Nothing")(b"", timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def main() -> None:
        server = Server([ContractService()])
        await server.start(UnixAddress(str(folder / "sync")))
        try:
            await asyncio.to_thread(talk)
        finally:
            await server.stop()

    asyncio.run(main())


class GrpcioService:
    """The contract's methods, served by grpcio."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "supervisor.testing.Contract",
            {
                "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
                "Repeat": grpc.unary_stream_rpc_method_handler(self._repeat),
                "Collect": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
                "Relay": grpc.stream_stream_rpc_method_handler(self._relay),
                "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
                "Hang": grpc.unary_unary_rpc_method_handler(self._hang),
            },
        )

    def _repeat(self, request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        count, _, data = request.partition(b":")
        for _index in range(int(count)):
            yield data

    def _relay(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            if request == b"stop":
                return
            yield request

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("why-bin", b"\0\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        raise AssertionError("abort raises")

    def _hang(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(self.ended.set)
        self.ended.wait(10)
        return b""


async def test_grpcio_server(folder: Path) -> None:
    """Our client and grpcio's blocking server: all kinds of call, statuses, deadlines, cancellation and its stop."""
    servicer = GrpcioService()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((servicer.handler(),))
    server.add_insecure_port(f"unix:{folder / 'grpcio'}")
    server.start()
    channel = await dial(UnixAddress(str(folder / "grpcio")), timeout=5)
    assert await call_unary(channel, "Echo", b"x" * (5 << 20)) == b"x" * (5 << 20)
    assert await call_stream(channel, "Repeat", [b"1000:x"]) == [b"x"] * 1000
    assert await call_stream(channel, "Collect", [b"a", b"b"]) == [b"ab"]
    assert await call_stream(channel, "Relay", [b"a", b"b"]) == [b"a", b"b"]
    assert await call_stream(channel, "Relay", [b"a", b"stop", b"b"]) == [b"a"]
    for method, status, text in (("Fail", Status.NOT_FOUND, "nöt"), ("Nothing", Status.UNIMPLEMENTED, None)):
        with pytest.raises(GRPCError) as caught:
            await call_unary(channel, method, "nöt".encode())
        assert caught.value.status is status
        assert text in {None, caught.value.message}
    with pytest.raises(DeadlineExceededError):
        await call_unary(channel, "Hang", timeout=0.2)
    assert await asyncio.to_thread(servicer.ended.wait, 5)

    async with channel.request(PREFIX + "Relay", Cardinality.STREAM_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"one"))
        assert await call.recv_message() == Blob(b"one")
        stopped = server.stop(5)
        async with asyncio.timeout(2):
            while not channel.is_draining:
                await asyncio.sleep(0)
        # A graceful stop of grpcio's does not cost the call that is under way.
        await call.send_message(Blob(b"two"))
        assert await call.recv_message() == Blob(b"two")
        with pytest.raises(ConnectionLostError):
            await call_unary(channel, "Echo")
        await call.end()
        assert await call.recv_message() is None
    await asyncio.to_thread(stopped.wait, 5)
    channel.close()
    await channel.wait_closed()


async def test_stock_grpclib_server(folder: Path) -> None:
    """Our client and grpclib's own server; its refusal of an unknown method is understood."""
    server = grpclib.server.Server([ContractService()])
    await server.start(path=str(folder / "stock"))
    channel = await dial(UnixAddress(str(folder / "stock")), timeout=5)
    assert await call_unary(channel, "Echo", b"x" * 1_000_000) == b"x" * 1_000_000
    assert await call_stream(channel, "Repeat", [b"100:x"]) == [b"x"] * 100
    assert await call_stream(channel, "Relay", [b"a", b"b"]) == [b"a", b"b"]
    # More calls than the 100 that it takes at once.
    replies = await asyncio.gather(*(call_unary(channel, "Echo", b"%d" % i) for i in range(300)))
    assert replies == [b"%d" % i for i in range(300)]
    for method, status in (("Nothing", Status.UNIMPLEMENTED), ("Fail", Status.NOT_FOUND)):
        with pytest.raises(GRPCError) as caught:
            await call_unary(channel, method, b"5:no")
        assert caught.value.status is status
    channel.close()
    await channel.wait_closed()
    server.close()
    await server.wait_closed()


async def test_stock_grpclib_client(connect: Connect, folder: Path, service: ContractService) -> None:
    """Grpclib's own client and our server."""
    await connect(address=UnixAddress(str(folder / "ours")))
    channel = grpclib.client.Channel(path=str(folder / "ours"))
    assert await call_unary(channel, "Echo", b"x" * 5_000_000) == b"x" * 5_000_000
    assert await call_stream(channel, "Repeat", [b"100:x"]) == [b"x"] * 100
    assert await call_stream(channel, "Relay", [b"a", b"b"]) == [b"a", b"b"]
    replies = await asyncio.gather(*(call_unary(channel, "Echo", b"%d" % i) for i in range(300)))
    assert replies == [b"%d" % i for i in range(300)]
    for method, status in (("Nothing", Status.UNIMPLEMENTED), ("Fail", Status.NOT_FOUND)):
        with pytest.raises(GRPCError) as caught:
            await call_unary(channel, method, b"5:no")
        assert caught.value.status is status
    # Its own clock and our server's race for the deadline; it passes either on.
    with pytest.raises((TimeoutError, GRPCError)):
        await call_unary(channel, "Hang", timeout=0.1)
    await service.cancelled.reach(1)
    channel.close()
