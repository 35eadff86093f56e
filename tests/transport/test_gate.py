"""Clients are looked at before they are spoken with."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.address import MemoryAddress, UnixAddress
from supervisor.errors import ConnectError, TransportError
from supervisor.testing.transport_contract import ContractService, call_unary
from supervisor.transport.dial import dial
from supervisor.transport.server import Server


def only(pid: int) -> Callable[[socket.socket], None]:
    """Return a check that lets one process in."""

    def check(client: socket.socket) -> None:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", credentials)[0] != pid:
            raise TransportError("it is somebody else")

    return check


async def test_client_that_passes_is_served(folder: Path) -> None:
    """The check sees the client's socket, and the client notices nothing of it."""
    server = Server([ContractService()])
    where = await server.start(UnixAddress(str(folder / "s")), check_client=only(os.getpid()))
    channel = await dial(where, timeout=5)

    assert await call_unary(channel, "Echo", b"hello") == b"hello"
    assert server.connections == 1
    channel.close()
    await server.stop()
    assert server.connections == 0


async def test_client_that_does_not_is_hung_up_on(folder: Path) -> None:
    """Without a byte, and whoever wants to know is told why."""
    told: list[str] = []
    server = Server([ContractService()])
    where = await server.start(
        UnixAddress(str(folder / "s")), check_client=only(1), on_refused=lambda error: told.append(str(error))
    )
    reader, writer = await asyncio.open_unix_connection(str(where))

    assert await reader.read() == b""
    with pytest.raises(ConnectError):
        await dial(where, timeout=5)
    assert told == ["a client was turned away: it is somebody else"] * 2
    writer.close()
    await server.stop()


async def test_connection_in_memory_has_nothing_to_look_at() -> None:
    """It comes from this process."""
    asked: list[Any] = []
    server = Server([ContractService()])
    where = await server.start(MemoryAddress("gate"), check_client=asked.append)
    channel = await dial(where, timeout=5)

    assert await call_unary(channel, "Echo", b"hello") == b"hello"
    assert asked == []
    channel.close()
    await server.stop()


async def test_server_serves_connections_that_others_accept(folder: Path) -> None:
    """`attach` makes the protocol; `stop` ends those connections with the server's own."""
    server = Server([ContractService()])
    make = server.attach()
    listener = await asyncio.get_running_loop().create_unix_server(make, path=str(folder / "s"))
    channel = await dial(UnixAddress(str(folder / "s")), timeout=5)

    assert await call_unary(channel, "Echo", b"hello") == b"hello"
    await server.stop()
    await channel.lost.wait()
    await channel.wait_closed()
    listener.close()
