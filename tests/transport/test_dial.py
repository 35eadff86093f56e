"""Dialling ends in time, with a channel that works or a `ConnectError`, and leaves no descriptor behind."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hyperframe.frame import SettingsFrame

from supervisor.address import MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import ConnectError, HandshakeError
from supervisor.testing.raw_peer import RawPeer
from supervisor.testing.transport_contract import ContractService, call_unary
from supervisor.transport.dial import dial
from supervisor.transport.server import Server

pytestmark = pytest.mark.usefixtures("nothing_left", "engine")


class Speaker(asyncio.Protocol):
    """A peer that sends fixed bytes and says nothing more."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._data)


@asynccontextmanager
async def listening(path: Path, factory: Callable[[], asyncio.Protocol]) -> AsyncIterator[UnixAddress]:
    """Listen at `path`, and close every connection in the end."""
    transports: list[asyncio.BaseTransport] = []

    class Recorded(asyncio.Protocol):
        def __new__(cls) -> asyncio.Protocol:  # type: ignore[misc] # a factory that notes what it made
            protocol = factory()
            made = protocol.connection_made

            def connection_made(transport: asyncio.BaseTransport) -> None:
                transports.append(transport)
                made(transport)

            protocol.connection_made = connection_made  # type: ignore[method-assign] # see above
            return protocol

    server = await asyncio.get_running_loop().create_unix_server(Recorded, str(path))
    try:
        yield UnixAddress(str(path))
    finally:
        server.close()
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)


SILENT = {
    "accepts and is silent": b"",
    "sends its settings and is silent": SettingsFrame(0).serialize(),
    "sends half a frame": SettingsFrame(0, settings={3: 100}).serialize()[:-3],
}
WRONG = {
    "speaks HTTP/1": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "speaks TLS": bytes.fromhex("1503010002022f") * 20,
    "sends junk": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("data", SILENT.values(), ids=SILENT)
async def test_peer_that_falls_silent_is_given_up_in_time(folder: Path, data: bytes) -> None:
    """A peer that accepts but does not both speak and listen fails within the timeout, not later and not earlier."""
    async with listening(folder / "s", lambda: Speaker(data)) as address:
        began = time.monotonic()
        with pytest.raises(ConnectError) as caught:
            await dial(address, timeout=0.2)
        assert 0.19 <= time.monotonic() - began < 1.2
        assert caught.value.phase == "connect"
        assert "0.2 s" in str(caught.value)


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
async def test_peer_that_speaks_something_else_is_refused(folder: Path, data: bytes) -> None:
    """A peer that does not speak HTTP/2 fails as soon as that shows, long before the timeout."""
    async with listening(folder / "s", lambda: Speaker(data)) as address:
        began = time.monotonic()
        with pytest.raises(ConnectError):
            await dial(address, timeout=10)
        assert time.monotonic() - began < 1


async def test_peer_that_hangs_up_is_a_connect_error(folder: Path) -> None:
    """A peer that accepts and closes fails at once."""

    class Hangup(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    async with listening(folder / "s", Hangup) as address:
        began = time.monotonic()
        with pytest.raises(ConnectError):
            await dial(address, timeout=5)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("network", ["unix", "tcp"])
async def test_listener_that_never_accepts_is_given_up_in_time(folder: Path, network: str) -> None:
    """The kernel completes connections that nobody accepts; they fail with the timeout."""
    if network == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(folder / "s"))
        address: UnixAddress | TcpAddress = UnixAddress(str(folder / "s"))
    else:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        address = TcpAddress("127.0.0.1", sock.getsockname()[1])
    with sock:
        sock.listen(5)
        began = time.monotonic()
        with pytest.raises(ConnectError):
            await dial(address, timeout=0.2)
        assert time.monotonic() - began < 1.2


async def test_listener_with_a_full_backlog_is_a_connect_error(folder: Path) -> None:
    """A unix socket that takes no connection is not mistaken for one that did."""
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
        sock.bind(str(folder / "s"))
        sock.listen(0)
        first.connect(str(folder / "s"))
        began = time.monotonic()
        with pytest.raises(ConnectError):
            await dial(UnixAddress(str(folder / "s")), timeout=5)
        assert time.monotonic() - began < 1


async def test_nobody_listens(folder: Path) -> None:
    """A missing socket, a stale one, a file, a closed port and an unknown name fail at once, each with a reason."""
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "stale"))
    stale.close()
    (folder / "file").touch()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    addresses = (
        UnixAddress(str(folder / "missing")),
        UnixAddress(str(folder / "stale")),
        UnixAddress(str(folder / "file")),
        TcpAddress("127.0.0.1", port),
        MemoryAddress("nobody"),
    )
    for address in addresses:
        began = time.monotonic()
        with pytest.raises(ConnectError) as caught:
            await dial(address, timeout=5)
        assert time.monotonic() - began < 0.5
        assert str(address) in str(caught.value)
        assert caught.value.__cause__ is not None


async def test_check_peer_sees_the_socket_before_a_byte_is_sent(folder: Path, service: ContractService) -> None:
    """`check_peer` may look at the credentials of the connected peer, and refuse it."""
    seen: list[bytes] = []

    def check(sock: socket.socket) -> None:
        seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    def refuse(sock: socket.socket) -> None:
        raise HandshakeError("not ours", hint="look again")

    server = Server([service])
    address = await server.start(UnixAddress(str(folder / "s")))
    channel = await dial(address, timeout=2, check_peer=check)
    assert len(seen[0]) == 12
    assert await call_unary(channel, "Echo", b"x") == b"x"
    channel.close()
    await channel.wait_closed()
    with pytest.raises(ConnectError, match="not ours; look again"):
        await dial(address, timeout=2, check_peer=refuse)
    await server.stop()


async def test_dial_that_is_cancelled_closes_its_socket(folder: Path) -> None:
    """Cancelling `dial` cancels it, and the peer sees the connection end."""
    peer = RawPeer(client_side=False, greet=False)
    async with listening(folder / "s", lambda: peer) as address:
        dialling = asyncio.create_task(dial(address, timeout=30))
        async with asyncio.timeout(2):
            while not hasattr(peer, "transport"):
                await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait({dialling})
        assert dialling.cancelled()
        await peer.until(lambda: peer.lost)


async def test_timeout_around_dial_is_the_callers(folder: Path) -> None:
    """A timeout of the caller's that is shorter than `timeout` is not taken for a connect error."""
    async with listening(folder / "s", lambda: Speaker(b"")) as address:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await dial(address, timeout=5)
        assert not isinstance(caught.value, ConnectError)


async def test_dial_over_ipv6(service: ContractService) -> None:
    """An IPv6 address works like any other."""
    server = Server([service])
    address = await server.start(TcpAddress("::1", 0))
    channel = await dial(address, timeout=2)
    assert await call_unary(channel, "Echo", b"six") == b"six"
    channel.close()
    await channel.wait_closed()
    await server.stop()
