"""A server and a channel in one process, gone after the test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from supervisor.address import MemoryAddress
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.server import Server


@pytest.fixture
async def connect(no_task_left: None) -> AsyncIterator[Callable[..., Awaitable[Channel]]]:
    """Return a function that serves services and returns a channel to them; no task of theirs outlives the test."""
    async with AsyncExitStack() as stack:

        async def serve(*services: Any) -> Channel:
            server = Server(services)
            address = MemoryAddress(secrets.token_hex(8))
            await server.start(address)
            stack.push_async_callback(server.stop)
            channel = await dial(address, timeout=5)
            stack.callback(channel.close)
            return channel

        yield serve
