"""What peers do to calls that no rule forbids, over real sockets: refusals, resets, limits on what they take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from raw_wire import Wire, answer, raw_server

from supervisor.address import UnixAddress
from supervisor.errors import CallResetError, DeadlineExceededError
from supervisor.testing.transport_contract import Blob
from supervisor.transport.dial import dial
from supervisor.transport.engine import frames
from supervisor.transport.engine.channel import EngineChannel
from supervisor.transport.engine.faults import ErrorCode
from supervisor.transport.engine.frames import rst_stream

Act = Callable[[Wire], Awaitable[None]]


@contextlib.asynccontextmanager
async def served_by(folder: Path, act: Act) -> AsyncIterator[EngineChannel]:
    """Connect to a server by hand that has exchanged settings when it begins to act."""

    async def greet_and_act(wire: Wire) -> None:
        await wire.greet_client()
        await act(wire)

    async with raw_server(folder / "raw", greet_and_act):
        channel: Any = await dial(UnixAddress(str(folder / "raw")), timeout=5, engine="lean")
        try:
            yield channel
        finally:
            channel.close()
            await channel.wait_closed()


async def get(channel: EngineChannel, **options: Any) -> bytes:
    """Make a unary call."""
    async with asyncio.timeout(10):
        reply: Blob = await channel.unary("/test.Raw/Get", Blob(b"request"), Blob, **options)
    return reply.data


def refusing(times: int) -> Act:
    """Return an act that refuses so many calls, and answers those after them."""

    async def act(wire: Wire) -> None:
        for number in range(10_000):
            _, _, stream, _ = await wire.until(frames.DATA, frames.END_STREAM)
            wire.send(rst_stream(stream, ErrorCode.REFUSED_STREAM) if number < times else answer(stream))

    return act


@pytest.mark.parametrize("size", [10, 20_000], ids=["one-step", "long"])
async def test_unary_call_that_is_refused_is_made_again(folder: Path, size: int) -> None:
    """A refusal says that the peer did not look at the call, which then is safe to repeat; streams are the caller's."""
    async with served_by(folder, refusing(2)) as channel:
        reply: Blob = await channel.unary("/test.Raw/Get", Blob(bytes(size)), Blob, timeout=5)
        assert reply.data == b"reply"
        assert not channel.calls


async def test_refusals_without_end_are_told(folder: Path) -> None:
    """A peer that refuses whatever comes is not asked forever."""
    async with served_by(folder, refusing(1000)) as channel:
        with pytest.raises(CallResetError) as caught:
            await get(channel)
        assert (caught.value.code, caught.value.maybe_executed) == ("REFUSED_STREAM", False)
        with pytest.raises(CallResetError):
            await get(channel, metadata=[("x", "v" * 9000)])


@pytest.mark.parametrize("code", [ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR])
async def test_reset_at_the_deadline_is_the_deadline(folder: Path, code: ErrorCode) -> None:
    """Where the peer's clock is first and it cancels the call, as grpc-go's server does, the deadline has passed."""

    async def act(wire: Wire) -> None:
        for _ in range(2):
            _, _, stream, _ = await wire.until(frames.DATA, frames.END_STREAM)
            wire.send(rst_stream(stream, code))

    expected = DeadlineExceededError if code is ErrorCode.CANCEL else CallResetError
    async with served_by(folder, act) as channel:
        with pytest.raises(expected):
            await get(channel, timeout=0.04)
        with pytest.raises(CallResetError):
            await get(channel, timeout=10)
