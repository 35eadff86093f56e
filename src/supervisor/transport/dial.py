"""Connect to a plugin: once, and only when it answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from grpclib.client import Handler
from grpclib.encoding.base import CodecBase

from supervisor.address import Address, MemoryAddress, TcpAddress
from supervisor.errors import ConnectError
from supervisor.spec import Limits
from supervisor.transport.channel import Channel
from supervisor.transport.memory import connect_memory
from supervisor.transport.protocol import WireProtocol, wire_configuration
from supervisor.transport.sockets import connect_socket
from supervisor.transport.translate import connect_error

__all__ = ["CheckPeer", "dial"]

CheckPeer = Callable[[socket.socket], None]
"""Looks at a connected socket (`SO_PEERCRED` ...) before a byte is sent; raises when the peer is not the right one."""


async def dial(
    address: Address,
    *,
    timeout: float,
    limits: Limits | None = None,
    codec: CodecBase | None = None,
    check_peer: CheckPeer | None = None,
) -> Channel:
    """Connect to `address` and wait until the peer speaks HTTP/2.

    Args:
        address: where the plugin listens.
        timeout: seconds for all of it: to connect, to receive the peer's settings and its acknowledgement of ours. A
            peer that accepts and never speaks fails here, and one that speaks and never listens.
        limits: bounds on messages and calls.
        codec: how messages become bytes; the strict one by default.
        check_peer: called with the connected socket; not called for a connection in memory.

    Raises:
        ConnectError: no connection, or not one that speaks HTTP/2. Nothing is left open.
    """
    limits = limits or Limits()
    protocol = WireProtocol(Handler(), wire_configuration(), client_side=True, limit=limits.calls_in_flight)
    try:
        async with asyncio.timeout(timeout) as scope:
            await _connect(protocol, address, check_peer)
            await protocol.greeted
    except BaseException as error:
        if hasattr(protocol, "connection"):
            protocol.end("the connection was given up", abrupt=True)
        if isinstance(error, TimeoutError) and scope.expired():
            raise ConnectError(
                f"{address} did not speak HTTP/2 within {timeout:g} s",
                phase="connect",
                hint="the plugin may be stopped, or something else listens there",
            ) from error
        if isinstance(error, Exception):
            raise connect_error(address, error) from error
        raise
    return Channel(protocol, name=str(address), authority=_authority(address), limits=limits, codec=codec)


async def _connect(protocol: WireProtocol, address: Address, check_peer: CheckPeer | None) -> None:
    if isinstance(address, MemoryAddress):
        connect_memory(address, protocol)
        return
    sock = await connect_socket(address)
    try:
        if check_peer is not None:
            check_peer(sock)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
    except BaseException:
        sock.close()
        raise


def _authority(address: Address) -> str:
    return str(address) if isinstance(address, TcpAddress) else "localhost"
