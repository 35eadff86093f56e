"""A stream of a multiplexed connection keeps the transport contract, whoever opens it, with and without TLS in it."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.address import MemoryAddress
from supervisor.terms import Engine, Limits
from supervisor.testing.transport_contract import TRANSPORT_CHECKS, Check, ContractService, Link
from supervisor.tls import TlsContexts
from supervisor.transport.dial import dial
from supervisor.transport.server import Server
from supervisor.transport.tls import make_identity
from supervisor.transport.yamux.connection import Multiplexer


@functools.cache
def contexts() -> tuple[TlsContexts, TlsContexts]:
    """Return contexts for two sides that trust each other."""
    near, far = make_identity(), make_identity()
    return near.pin(far.certificate), far.pin(near.certificate)


@asynccontextmanager
async def connect(
    service: ContractService, limits: Limits, *, engines: tuple[Engine, Engine], host_calls: bool, secure: bool
) -> AsyncIterator[Link]:
    """Serve on one side of a multiplexed pair of sockets and dial from the other."""
    loop = asyncio.get_running_loop()
    client, server = Multiplexer(client=True, limit=10), Multiplexer(client=False, limit=10)
    for multiplexer, sock in zip((client, server), socket.socketpair(), strict=True):
        sock.settimeout(0)
        await loop.create_connection(lambda multiplexer=multiplexer: multiplexer, sock=sock)  # type: ignore[misc]
    dialling, serving = (client, server) if host_calls else (server, client)
    own_tls, their_tls = contexts() if secure else (None, None)
    grpc = Server([service], limits=limits, on_error=lambda _method, _error: None, engine=engines[1])
    serving.accept = grpc.attach(tls=their_tls)
    address = MemoryAddress("multiplexed")
    channel = await dial(address, timeout=5, limits=limits, tls=own_tls, over=dialling, engine=engines[0])
    try:
        yield Link(channel, grpc.abort)
    finally:
        channel.close()
        await channel.wait_closed()
        await grpc.stop()
        for multiplexer in (client, server):
            multiplexer.close()
            await multiplexer.closed


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: str(check.__name__))
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("host_calls", [True, False], ids=["host calls", "plugin calls"])
@pytest.mark.parametrize(
    "engines", [("lean", "lean"), ("lean", "grpclib"), ("grpclib", "lean"), ("grpclib", "grpclib")], ids="-".join
)
async def test_multiplexed_stream_keeps_the_contract(
    engines: tuple[Engine, Engine], host_calls: bool, secure: bool, check: Check
) -> None:
    """The check passes over a stream that shares its connection."""
    await check(functools.partial(connect, engines=engines, host_calls=host_calls, secure=secure))
