"""A server serves, and always stops."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engines import transport_of
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor.address import MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import ConfigurationError, ConnectionLostError, TransportError
from supervisor.testing.transport_contract import Blob, ContractService, call_unary
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.memory import MemoryTransport
from supervisor.transport.server import Server

pytestmark = pytest.mark.usefixtures("nothing_left", "engine")

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]
PREFIX = "/supervisor.testing.Contract/"


class Stubborn:
    """A servicer whose handler does not end when it is cancelled, until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()

    def __mapping__(self) -> dict[str, Handler]:
        return {"/test.Stubborn/Stay": Handler(self._stay, Cardinality.UNARY_UNARY, Blob, Blob)}

    async def _stay(self, stream: Any) -> None:
        self.entered.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize(
    ("wrong", "hint"), [(ContractService, "make one: ContractService()"), (object(), "__mapping__")]
)
async def test_what_is_no_servicer_is_refused(wrong: Any, hint: str) -> None:
    """A class in place of its instance is the likeliest mistake, and said so before anything listens."""
    with pytest.raises(ConfigurationError, match="is not a servicer") as caught:
        Server([wrong])
    assert hint in str(caught.value)


async def test_stop_of_an_idle_server_takes_no_time(connect: Connect) -> None:
    """With no call under way `stop` does not wait for its grace, although a client is connected."""
    server, channel = await connect()
    await call_unary(channel, "Echo")
    began = time.monotonic()
    assert await server.stop(grace=30) == 0
    assert time.monotonic() - began < 1
    async with asyncio.timeout(2):
        await channel.lost.wait()


async def test_stop_lets_calls_finish_within_the_grace(connect: Connect) -> None:
    """A call that ends in time gets its reply, and is not counted as cut."""
    release = asyncio.Event()

    class Slow(ContractService):
        async def _echo(self, stream: Any) -> None:
            self.entered.add()
            await release.wait()
            await super()._echo(stream)

    service = Slow()
    server, channel = await connect(service)
    call = asyncio.create_task(call_unary(channel, "Echo", b"slow"))
    await service.entered.reach(1)
    stopping = asyncio.create_task(server.stop(grace=30))
    await asyncio.sleep(0)
    release.set()
    async with asyncio.timeout(2):
        assert await call == b"slow"
        assert await stopping == 0


async def test_stop_answers_calls_that_outlast_the_grace(connect: Connect, service: ContractService) -> None:
    """After the grace every client gets UNAVAILABLE, every handler is cancelled, and `stop` says how many."""
    server, channel = await connect()
    calls = [asyncio.create_task(call_unary(channel, "Hang")) for _ in range(3)]
    await service.entered.reach(3)
    async with asyncio.timeout(5):
        assert await server.stop(grace=0.05) == 3
    await asyncio.wait(calls, timeout=2)
    for call in calls:
        error = call.exception()
        assert isinstance(error, GRPCError)
        assert error.status is Status.UNAVAILABLE
    assert service.cancelled.value == 3
    assert await server.stop() == 0


async def test_drain_waits_for_calls_and_leaves_the_background(connect: Connect, service: ContractService) -> None:
    """New calls are refused as UNAVAILABLE, those under way finish, and routes of the background go on as before."""
    server, channel = await connect(background={PREFIX + "Echo"})
    hanging = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    assert not await server.drain(0.01)
    with pytest.raises(GRPCError) as caught:
        await call_unary(channel, "Hang")
    assert caught.value.status is Status.UNAVAILABLE
    assert await call_unary(channel, "Echo", b"x") == b"x"
    draining = asyncio.create_task(server.drain(5))
    hanging.cancel()
    assert await draining
    assert await call_unary(channel, "Echo", b"y") == b"y"


async def test_stop_is_bounded_when_a_handler_ignores_its_cancellation(connect: Connect) -> None:
    """A handler that will not end does not hold up `stop`; its client has its answer."""
    servicer = Stubborn()
    server, channel = await connect(servicer)

    async def call() -> None:
        async with channel.request("/test.Stubborn/Stay", Cardinality.UNARY_UNARY, Blob, Blob) as stream:
            await stream.send_message(Blob(), end=True)
            await stream.recv_message()

    calling = asyncio.create_task(call())
    await servicer.entered.wait()
    began = time.monotonic()
    assert await server.stop() == 1
    assert time.monotonic() - began < 3
    await asyncio.wait({calling}, timeout=1)
    assert isinstance(calling.exception(), GRPCError)
    servicer.let_go.set()
    async with asyncio.timeout(1):
        while server.in_flight:
            await asyncio.sleep(0)


async def test_stop_is_bounded_when_a_client_does_not_read(connect: Connect, service: ContractService) -> None:
    """A client that takes no bytes does not hold up `stop`."""
    server, channel = await connect(address=MemoryAddress("unread"))
    async with channel.request(PREFIX + "Endless", Cardinality.UNARY_STREAM, Blob, Blob) as call:
        await call.send_message(Blob(b"x" * 50_000), end=True)
        await service.entered.reach(1)
        transport = transport_of(channel._wire)
        assert isinstance(transport, MemoryTransport)
        transport.pause_reading()
        async with asyncio.timeout(4):
            assert await server.stop() == 1
        with pytest.raises(ConnectionLostError):
            while await call.recv_message() is not None:
                pass


async def test_stop_that_is_cancelled_cuts_at_once(connect: Connect, service: ContractService) -> None:
    """Whoever loses patience with `stop` gets a server that is stopped nevertheless."""
    server, channel = await connect()
    call = asyncio.create_task(call_unary(channel, "Hang"))
    await service.entered.reach(1)
    stopping = asyncio.create_task(server.stop(grace=30))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping, call}, timeout=2)
    assert stopping.cancelled()
    assert isinstance(call.exception(), (GRPCError, ConnectionLostError))
    await service.cancelled.reach(1)


async def test_stopped_server_accepts_no_connection(connect: Connect, folder: Path) -> None:
    """The address is free after `stop`, and its socket file gone."""
    path = folder / "gone"
    server, _ = await connect(address=UnixAddress(str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.stop()
    assert not path.exists()
    with pytest.raises(TransportError):
        await dial(UnixAddress(str(path)), timeout=1)


async def test_stop_leaves_the_socket_file_of_a_successor(connect: Connect, folder: Path) -> None:
    """A socket file that another server has put in the place of the first one's stays."""
    path = folder / "taken"
    server, _ = await connect(address=UnixAddress(str(path)))
    path.unlink()
    other = socket.socket(socket.AF_UNIX)
    # An inode number may be given out again; one file in between makes sure that it is not.
    (folder / "between").touch()
    other.bind(str(path))
    await server.stop()
    assert path.exists()
    other.close()


async def test_address_in_use_is_a_typed_error(connect: Connect, folder: Path) -> None:
    """A file at the address is never replaced; ports and memory names are not shared either."""
    path = folder / "file"
    path.write_text("precious")
    for address in (UnixAddress(str(path)), MemoryAddress("twice"), TcpAddress("127.0.0.1", 0)):
        bound = address
        if not isinstance(address, UnixAddress):
            first = Server([])
            bound = await first.start(address)
        with pytest.raises(TransportError) as caught:
            await Server([]).start(bound)
        assert caught.value.phase == "listen"
        if not isinstance(address, UnixAddress):
            await first.stop()
    assert path.read_text() == "precious"


async def test_start_on_a_socket_that_was_bound_elsewhere(service: ContractService) -> None:
    """`start` takes a socket, and says which address it has."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = Server([service])
    address = await server.start(sock)
    assert address == TcpAddress("127.0.0.1", sock.getsockname()[1])
    channel = await dial(address, timeout=2)
    assert await call_unary(channel, "Echo", b"x") == b"x"
    channel.close()
    await channel.wait_closed()
    await server.stop()


@pytest.mark.parametrize("turns", range(4))
async def test_start_that_is_cancelled_leaves_nothing_in_the_loop(
    service: ContractService, folder: Path, turns: int
) -> None:
    """A reader that stayed would deafen whatever is given the number of the closed socket next."""
    server = Server([service])
    starting = asyncio.ensure_future(server.start(UnixAddress(str(folder / "cancelled"))))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await server.stop(grace=0)

    watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]  # where it would be left
    open_ones = set(map(int, os.listdir("/proc/self/fd")))
    assert not [key.fd for key in watched.values() if key.fd not in open_ones]


async def test_error_of_a_handler_is_told(connect: Connect, errors: list[tuple[str, BaseException]]) -> None:
    """`on_error` gets the route and the exception; a status is not an error."""
    _, channel = await connect()
    for request in (b"crash:boom", b"5:no"):
        with pytest.raises(GRPCError):
            await call_unary(channel, "Fail", request)
    assert [(method, type(error)) for method, error in errors] == [(PREFIX + "Fail", ZeroDivisionError)]


async def test_error_of_a_handler_goes_to_the_loop_by_default(service: ContractService) -> None:
    """Without `on_error` the event loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    server = Server([service])
    channel = await dial(await server.start(MemoryAddress("default")), timeout=2)
    with pytest.raises(GRPCError):
        await call_unary(channel, "Fail", b"crash:boom")
    channel.close()
    await server.stop()
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
