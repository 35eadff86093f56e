"""Connect to a plugin: once, and only when it answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from grpclib.client import Handler
from grpclib.encoding.base import CodecBase

from supervisor.address import Address, MemoryAddress, TcpAddress
from supervisor.errors import ConnectError, ConnectionLostError, TransportError
from supervisor.terms import Engine, Limits
from supervisor.tls import TlsContexts
from supervisor.transport.channel import Channel
from supervisor.transport.engine.calling import ClientProtocol
from supervisor.transport.engine.channel import EngineChannel
from supervisor.transport.engine.choice import chosen_engine
from supervisor.transport.engine.settings import wire_settings
from supervisor.transport.memory import connect_memory
from supervisor.transport.protocol import WireProtocol, wire_configuration
from supervisor.transport.sockets import connect_socket
from supervisor.transport.tls_layer import TlsProtocol
from supervisor.transport.translate import connect_error
from supervisor.transport.yamux.connection import Multiplexer

__all__ = ["CheckPeer", "connect_multiplexed", "dial"]

CheckPeer = Callable[[socket.socket], None]
"""Looks at a connected socket (`SO_PEERCRED` ...) before a byte is sent; raises when the peer is not the right one."""


async def dial(
    address: Address,
    *,
    timeout: float,
    limits: Limits | None = None,
    codec: CodecBase | None = None,
    check_peer: CheckPeer | None = None,
    tls: TlsContexts | None = None,
    over: Multiplexer | None = None,
    invited: bool = False,
    engine: Engine | None = None,
) -> Channel:
    """Connect to `address` and wait until the peer speaks HTTP/2.

    Args:
        address: where the plugin listens.
        timeout: seconds for all of it: to connect, for TLS, to receive the peer's settings and its acknowledgement of
            ours. A peer that accepts and never speaks fails here, and one that speaks and never listens.
        limits: bounds on messages and calls.
        codec: how messages become bytes; the strict one by default.
        check_peer: called with the connected socket; not called for a connection in memory.
        tls: speak TLS, as the client of these contexts; None for plain text.
        over: a multiplexed connection to `address`, of which a stream is used instead of a connection of its own.
        invited: whether the peer waits for that stream, so that it counts against no limit.
        engine: what speaks HTTP/2; the lean one by default.

    Raises:
        CertificateError: one side refuses the other's certificate. Nothing is left open.
        ConnectError: no connection, or not one that speaks HTTP/2. Nothing is left open.
    """
    limits = limits or Limits()
    protocol = _protocol(chosen_engine(engine), limits)
    layer = None if tls is None else TlsProtocol(protocol, tls, server_side=False)
    try:
        async with asyncio.timeout(timeout) as scope:
            if over is not None:
                over.open(layer or protocol, invited=invited)
            else:
                await _connect(layer or protocol, address, check_peer)
            if layer is not None:
                await layer.secured
            await protocol.greeted
    except BaseException as error:
        connected = _is_connected(protocol)
        if connected:
            protocol.end("the connection was given up", abrupt=True)
        elif layer is not None:
            layer.abort()
        if isinstance(error, TimeoutError) and scope.expired():
            language = "HTTP/2" if layer is None or connected else "TLS"
            raise ConnectError(
                f"{address} did not speak {language} within {timeout:g} s",
                phase="connect",
                hint="the plugin may be stopped, or something else listens there",
            ) from error
        if isinstance(error, Exception):
            raise _explain(address, error, layer) from error
        raise
    made = EngineChannel if isinstance(protocol, ClientProtocol) else Channel
    return made(protocol, name=str(address), authority=_authority(address), limits=limits, codec=codec)  # type: ignore[arg-type] # the channel is of the protocol's engine


def _protocol(engine: Engine, limits: Limits) -> WireProtocol | ClientProtocol:
    if engine == "lean":
        return ClientProtocol(wire_settings(limits))
    return WireProtocol(Handler(), wire_configuration(), client_side=True, limit=limits.calls_in_flight)


def _is_connected(protocol: WireProtocol | ClientProtocol) -> bool:
    """Whether it has a transport: before that there is nothing to end."""
    return protocol.transport is not None if isinstance(protocol, ClientProtocol) else hasattr(protocol, "connection")


def _explain(address: Address, error: Exception, layer: TlsProtocol | None) -> TransportError:
    # With TLS 1.3 the peer's refusal of a certificate comes after the handshake; what it says is the better story.
    explained = connect_error(address, (layer and layer.failure) or error)
    if layer is None and isinstance(error, ConnectionLostError):
        # Go's servers hang up on who does not speak TLS, and say nothing.
        explained.hint = "it may have ended, or demand TLS (auto_mtls or tls)"
    return explained


async def connect_multiplexed(
    address: Address, *, timeout: float, limit: int, check_peer: CheckPeer | None = None
) -> Multiplexer:
    """Connect to `address` for yamux, as its client; nothing is exchanged before the first stream is opened.

    Args:
        address: where the plugin listens.
        timeout: seconds to connect.
        limit: streams open at once.
        check_peer: called with the connected socket; not called for a connection in memory.

    Raises:
        ConnectError: no connection. Nothing is left open.
    """
    multiplexer = Multiplexer(client=True, limit=limit)
    try:
        async with asyncio.timeout(timeout):
            await _connect(multiplexer, address, check_peer)
    except BaseException as error:
        multiplexer.close()
        if isinstance(error, Exception):
            raise connect_error(address, error) from error
        raise
    return multiplexer


async def _connect(protocol: asyncio.Protocol, address: Address, check_peer: CheckPeer | None) -> None:
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
