"""A plugin's process dies or stops under its calls: real children, real signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engines import is_writable
from watching import freeze

from supervisor.address import UnixAddress
from supervisor.errors import ConnectionLostError, DeadlineExceededError, SupervisorError
from supervisor.testing.transport_contract import call_unary
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial

pytestmark = pytest.mark.usefixtures("nothing_left", "engine")

CHILD = """
import asyncio, sys
from supervisor.address import UnixAddress
from supervisor.testing.transport_contract import ContractService
from supervisor.transport.server import Server

async def main():
    service = ContractService()
    server = Server([service])
    await server.start(UnixAddress(sys.argv[1]))
    print("up", flush=True)
    await service.entered.reach(int(sys.argv[2])) if sys.argv[2] != "0" else None
    print("entered", flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@asynccontextmanager
async def plugin(folder: Path, calls: int = 0) -> AsyncIterator[tuple[subprocess.Popen[bytes], Channel]]:
    """Run a server in a child that says when `calls` calls have reached it; connect to it."""
    path = folder / "s"
    command = [sys.executable, "-c", CHILD, str(path), str(calls)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:  # noqa: ASYNC220 - spawning is quick
        try:
            assert await _line(child) == b"up\n"
            channel = await dial(UnixAddress(str(path)), timeout=5)
            yield child, channel
            channel.close()
            await channel.wait_closed()
        finally:
            child.kill()


async def _line(child: subprocess.Popen[bytes]) -> bytes:
    """Read a line that the child prints."""
    assert child.stdout is not None
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(child.stdout, readable.set)
    try:
        async with asyncio.timeout(10):
            await readable.wait()
    finally:
        loop.remove_reader(child.stdout)
    return child.stdout.readline()


async def test_killed_process_ends_every_call(folder: Path) -> None:
    """SIGKILL with 2,000 unary calls and 50 streams in flight: all end typed within two seconds."""
    async with plugin(folder, calls=2050) as (child, channel):
        calls = [asyncio.create_task(call_unary(channel, "Hang", timeout=60)) for _ in range(2050)]
        assert await _line(child) == b"entered\n"
        child.kill()
        began = time.monotonic()
        _, pending = await asyncio.wait(calls, timeout=10)
        assert not pending
        assert time.monotonic() - began < 2
        assert {type(call.exception()) for call in calls} == {ConnectionLostError}
        assert channel.is_lost
        with pytest.raises(ConnectionLostError) as caught:
            await call_unary(channel, "Echo")
        assert not caught.value.maybe_executed


async def test_killed_process_ends_calls_that_wait_to_send(folder: Path) -> None:
    """SIGKILL of a stopped process whose socket is full: calls that could not send end too."""
    async with plugin(folder) as (child, channel):
        freeze(child.pid)
        calls = [asyncio.create_task(call_unary(channel, "Echo", b"x" * 60_000, timeout=60)) for _ in range(200)]
        await _until_full(channel)
        child.kill()
        _, pending = await asyncio.wait(calls, timeout=5)
        assert not pending
        assert {type(call.exception()) for call in calls} == {ConnectionLostError}


async def test_stopped_process_is_bounded_by_the_deadline(folder: Path) -> None:
    """Calls to a process that is stopped end with their deadlines; it serves again when it is continued."""
    async with plugin(folder) as (child, channel):
        freeze(child.pid)
        with pytest.raises(DeadlineExceededError):
            await call_unary(channel, "Echo", b"x", timeout=0.1)
        child.send_signal(signal.SIGCONT)
        assert await call_unary(channel, "Echo", b"back", timeout=10) == b"back"


async def test_channel_to_a_stopped_process_closes_at_once(folder: Path) -> None:
    """A socket whose peer does not read, with bytes waiting to be sent, is closed without them."""
    async with plugin(folder) as (child, channel):
        freeze(child.pid)
        calls = [asyncio.create_task(call_unary(channel, "Echo", b"x" * 60_000, timeout=60)) for _ in range(200)]
        await _until_full(channel)
        channel.close()
        async with asyncio.timeout(1):
            await channel.wait_closed()
            await asyncio.wait(calls)
        assert all(isinstance(call.exception(), SupervisorError) for call in calls)
        with pytest.raises(ConnectionLostError):
            await call_unary(channel, "Echo")


async def _until_full(channel: Channel) -> None:
    """Wait until the socket takes no more bytes."""
    async with asyncio.timeout(5):
        while is_writable(channel._wire):
            await asyncio.sleep(0)
