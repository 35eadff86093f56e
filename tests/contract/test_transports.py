"""Every transport of ours keeps the transport contract."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from contract_links import connect_at

from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress
from supervisor.terms import Engine
from supervisor.testing.transport_contract import TRANSPORT_CHECKS, Check


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
