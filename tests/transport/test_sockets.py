"""Sockets: what a peer left behind before it ended."""

from __future__ import annotations

import asyncio
import socket

import pytest

from supervisor.transport.sockets import read_leftover


class Collector(asyncio.Protocol):
    """Takes what comes, and at the end what is left."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self.transport is not None
        self.received += read_leftover(self.transport, exc)
        self.lost.set_result(exc)


async def test_a_failed_write_does_not_lose_what_was_said_before(nothing_left: None) -> None:
    """The peer writes as much as the kernel holds and closes; a write that finds it gone must not cost any of that."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, collector = await loop.create_unix_connection(Collector, sock=ours)
    transport.pause_reading()
    theirs.settimeout(0)
    said = 0
    with pytest.raises(BlockingIOError):
        while True:
            said += theirs.send(b"last words" * 1000)
    theirs.close()
    transport.resume_reading()
    transport.write(b"an acknowledgement")
    lost = await collector.lost

    assert isinstance(lost, BrokenPipeError)
    assert len(collector.received) == said


async def test_without_an_error_nothing_is_read(nothing_left: None) -> None:
    """A connection that this side closes is over; and so is one whose end was read."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, collector = await asyncio.get_running_loop().create_unix_connection(Collector, sock=ours)
        transport.pause_reading()
        theirs.send(b"too late")
        transport.close()
        assert await collector.lost is None

    assert collector.received == b""
