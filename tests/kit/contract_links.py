"""How the checks of the transport contract connect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from supervisor.address import Address
from supervisor.spec import Engine, Limits
from supervisor.testing.transport_contract import Connect, ContractService, Link
from supervisor.transport.dial import dial
from supervisor.transport.server import Server
from supervisor.transport.tls import make_identity

__all__ = ["connect_at"]


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
