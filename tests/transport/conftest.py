"""Servers and channels that are gone after the test."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from supervisor.address import Address, UnixAddress
from supervisor.terms import Limits
from supervisor.testing.transport_contract import ContractService
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.engine import choice
from supervisor.transport.server import Server

Connect = Callable[..., Awaitable[tuple[Server, Channel]]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="plg-") as name:
        yield Path(name)


@pytest.fixture
async def service() -> ContractService:
    """Return the servicer that the tests call."""
    return ContractService()


@pytest.fixture
async def errors() -> AsyncIterator[list[tuple[str, BaseException]]]:
    """Return what handlers raised; the event loop must not have been told of anything."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    yield []
    assert told == []


@pytest.fixture(params=["lean", "grpclib"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one engine, then the other, the one that is used where none is named; return its name."""
    monkeypatch.setattr(choice, "DEFAULT_ENGINE", request.param)
    name: str = request.param
    return name


@pytest.fixture
async def connect(
    folder: Path, service: ContractService, errors: list[tuple[str, BaseException]], engine: str
) -> AsyncIterator[Connect]:
    """Return a function that serves services (by default the contract's) and connects to them."""
    async with AsyncExitStack() as stack:
        count = 0

        async def make(
            *services: Any,
            address: Address | None = None,
            limits: Limits | None = None,
            client: Limits | None = None,
            background: Collection[str] = (),
        ) -> tuple[Server, Channel]:
            nonlocal count
            count += 1
            server = Server(
                services or [service],
                limits=limits,
                on_error=lambda method, error: errors.append((method, error)),
                background=background,
            )
            stack.push_async_callback(server.stop)
            where = await server.start(address or UnixAddress(str(folder / f"s{count}")))
            channel = await dial(where, timeout=5, limits=client or limits)
            stack.push_async_callback(channel.wait_closed)
            stack.callback(channel.close)
            return server, channel

        yield make
