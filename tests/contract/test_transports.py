"""Every transport of ours keeps the transport contract."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress
from supervisor.terms import Engine, Limits
from supervisor.testing.transport_contract import TRANSPORT_CHECKS, Check, Connect, ContractService, Link
from supervisor.transport.dial import dial
from supervisor.transport.server import Server
from supervisor.transport.tls import make_identity


def connect_at(address: Address, client: Engine, serving: Engine, *, secured: bool = False) -> Connect:
    """Return how the checks connect over the transport of `address`, by an engine on each side, and TLS if secured."""
    host, plugin = (make_identity(), make_identity()) if secured else (None, None)

    @asynccontextmanager
    async def connect(service: ContractService, limits: Limits) -> AsyncIterator[Link]:
        server = Server([service], limits=limits, on_error=lambda _method, _error: None, engine=serving)
        tls = plugin.pin(host.certificate) if host and plugin else None
        where = await server.start(address, tls=tls)
        tls = host.pin(plugin.certificate) if host and plugin else None
        channel = await dial(where, timeout=5, limits=limits, tls=tls, engine=client)
        try:
            yield Link(channel, server.abort)
        finally:
            channel.close()
            await channel.wait_closed()
            await server.stop()

    return connect


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: str(check.__name__))
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("network", ["unix", "tcp", "memory"])
@pytest.mark.parametrize("client", ["lean", "grpclib"])
@pytest.mark.parametrize("serving", ["lean", "grpclib"])
async def test_transport_keeps_the_contract(
    client: Engine, serving: Engine, network: str, secured: bool, check: Check
) -> None:
    """The check passes over this transport, between these engines."""
    with tempfile.TemporaryDirectory(prefix="plg-") as folder:
        addresses: dict[str, Address] = {
            "unix": UnixAddress(str(Path(folder) / "s")),
            "tcp": TcpAddress("127.0.0.1", 0),
            "memory": MemoryAddress(f"contract-{check.__name__}-{secured}"),
        }
        await check(connect_at(addresses[network], client, serving, secured=secured))
