"""Peers that break a rule or wear a side out, over real sockets: each ends its own connection, with the error that says why.

The sans-IO tests beside this file have every rule; here are the bounds, each with a peer of either role.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from raw_wire import Wire, answer, connected_wire, raw_server

from supervisor.address import UnixAddress
from supervisor.errors import ConnectError, TransportError
from supervisor.testing.raw_peer import message
from supervisor.testing.transport_contract import Blob, call_unary
from supervisor.transport import server as server_module
from supervisor.transport.dial import dial
from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import (
    ErrorCode,
    FloodError,
    FrameOrderError,
    FrameSizeError,
    HeaderCompressionError,
    HeaderListTooLargeError,
    PrefaceError,
    SettingError,
    WindowError,
    WireViolationError,
)
from supervisor.transport.engine.frames import LARGEST_WINDOW, Setting, frame, rst_stream, window_update
from supervisor.transport.engine.settings import WireSettings

Make = Callable[..., Any]
ECHO = "/supervisor.testing.Contract/Echo"
HANG = "/supervisor.testing.Contract/Hang"
RELAY = "/supervisor.testing.Contract/Relay"
MANY = 30_000
"""More than the budget's burst, 10,000."""

PING = frame(frames.PING, 0, 0, b"12345678")
BLOCK = b"\0\x01k\x7f\x80\x07" + b"v" * 1023
HEADS = frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x88\x0f\x10\x10application/grpc")


@pytest.fixture
def engine() -> str:
    """Leave out the other engine."""
    return "lean"


ANYBODY = {
    "flood of PING": (FloodError, PING * MANY),
    "flood of SETTINGS": (FloodError, frames.settings(()) * MANY),
    "flood of settings in one frame": (FloodError, frames.settings([(Setting.INITIAL_WINDOW_SIZE, 65_535)] * MANY)),
    "flood of acknowledgements": (FloodError, frame(frames.SETTINGS, frames.ACK, 0) * MANY),
    "flood of PRIORITY": (FloodError, frame(frames.PRIORITY, 0, 1, b"12345") * MANY),
    "flood of unknown frames": (FloodError, frame(0xBE, 0, 0, b"?") * MANY),
    "flood of GOAWAY": (FloodError, frames.goaway(LARGEST_WINDOW, 0) * MANY),
    "flood of small windows": (FloodError, window_update(0, 1) * MANY),
    "flood of growing windows": (FloodError, window_update(1, 10) * MANY),
    "window of nothing": (FrameOrderError, window_update(0, 0)),
    "window past the end": (WindowError, window_update(0, LARGEST_WINDOW)),
    "stream's window past the end": (WindowError, window_update(1, LARGEST_WINDOW)),
    "initial window past the end": (WindowError, frames.settings([(Setting.INITIAL_WINDOW_SIZE, 1 << 31)])),
    "impossible frame size": (SettingError, frames.settings([(Setting.MAX_FRAME_SIZE, 1)])),
    "oversize frame": (FrameSizeError, (((1 << 24) - 1) << 8).to_bytes(4, "big") + bytes(5)),
    "PING of 3 bytes": (FrameSizeError, frame(frames.PING, 0, 0, b"abc")),
    "CONTINUATION of nothing": (FrameOrderError, frame(frames.CONTINUATION, 4, 1, b"\x88")),
    "DATA on an idle stream": (FrameOrderError, frame(frames.DATA, 0, 99, b"x")),
    "reset of an idle stream": (FrameOrderError, rst_stream(99, 8)),
    "HTTP/1": (FrameSizeError, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
}

BY_SERVERS = {
    "flood of empty DATA": (FloodError, HEADS + frame(frames.DATA, 0, 1) * MANY),
    "flood of padding": (FloodError, HEADS + frame(frames.DATA, frames.PADDED, 1, b"\0") * MANY),
    "flood of empty CONTINUATION": (FloodError, frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, 0, 1) * MANY),
    "flood of CONTINUATION": (
        HeaderListTooLargeError,
        frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.CONTINUATION, 0, 1, BLOCK) * 1000,
    ),
    "flood of resets": (FloodError, rst_stream(1, 8) * MANY),
    "flood of interim responses": (FloodError, frame(frames.HEADERS, 4, 1, b"\x08\x03103") * MANY),
    "DATA beyond the window": (WindowError, HEADS + frame(frames.DATA, 0, 1, message(bytes(10_000))) * 400),
    "DATA before HEADERS": (FrameOrderError, frame(frames.DATA, 0, 1, message(b"x"))),
    "interrupted HEADERS": (FrameOrderError, frame(frames.HEADERS, 0, 1, b"\x88") + PING),
    "bad HPACK": (HeaderCompressionError, frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff")),
    "header list that unpacks": (HeaderListTooLargeError, frame(frames.HEADERS, 4, 1, b"\x88" + b"\x90" * 5000)),
    "push": (FrameOrderError, frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88")),
}  # fmt: skip

REQUEST = b"\x83\x86\x04\x04/a/b"
BY_CLIENTS = {
    "flood of empty DATA": (FloodError, frame(frames.DATA, 0, 1) * MANY),
    "flood of empty CONTINUATION": (FloodError, frame(frames.HEADERS, 0, 3) + frame(frames.CONTINUATION, 0, 3) * MANY),
    "flood of CONTINUATION": (
        HeaderListTooLargeError,
        frame(frames.HEADERS, 0, 3, BLOCK) + frame(frames.CONTINUATION, 0, 3, BLOCK) * 1000,
    ),
    "flood of calls that are reset": (
        FloodError,
        b"".join(
            frame(frames.HEADERS, 4, stream, REQUEST) + rst_stream(stream, 8) for stream in range(3, 3 + 4 * MANY, 2)
        ),
    ),
    "flood of DATA after the end": (
        FloodError,
        frame(frames.DATA, frames.END_STREAM, 1, message(b"x")) + frame(frames.DATA, 0, 1, b"x") * 2 * MANY,
    ),
    "DATA beyond the window": (WindowError, frame(frames.DATA, 0, 1, message(bytes(10_000))) * 400),
    "interrupted HEADERS": (FrameOrderError, frame(frames.HEADERS, 0, 3, REQUEST) + PING),
    "bad HPACK": (HeaderCompressionError, frame(frames.HEADERS, 4, 3, b"\xff\xff\xff\xff\xff")),
    "header list that unpacks": (HeaderListTooLargeError, frame(frames.HEADERS, 4, 3, REQUEST + b"\x90" * 5000)),
    "HEADERS on an even stream": (FrameOrderError, frame(frames.HEADERS, 4, 2, REQUEST)),
}  # fmt: skip


@contextlib.asynccontextmanager
async def hanging_call(folder: Path, then: bytes) -> AsyncIterator[tuple[Any, asyncio.Task[Any], asyncio.Future[Any]]]:
    """Make a call to a server that sends bytes instead of an answer; give its channel, the call, and what came of it there."""
    code: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def act(wire: Wire) -> None:
        await wire.greet_client()
        await wire.until(frames.DATA)
        wire.send(then)
        code.set_result(await wire.ended())

    async with raw_server(folder / "raw", act):
        channel: Any = await dial(UnixAddress(str(folder / "raw")), timeout=5, engine="lean")
        call = asyncio.create_task(channel.unary(HANG, Blob(b"x"), Blob))
        try:
            yield channel, call, code
        finally:
            channel.close()
            await channel.wait_closed()


@pytest.mark.parametrize("case", (ANYBODY | BY_SERVERS).values(), ids=ANYBODY | BY_SERVERS)
async def test_server_that_breaks_a_rule(folder: Path, case: tuple[type[WireViolationError], bytes]) -> None:
    """The call fails with the rule's error, and so does the channel; the server is told the code."""
    expected, sent = case
    async with asyncio.timeout(10), hanging_call(folder, sent) as (channel, call, code):
        with pytest.raises(TransportError):
            await call
        await channel.lost.wait()
        assert type(channel.failure) is expected
        assert channel.is_closing
        assert await code in {expected.code, None}  # None where the socket was full: who floods may not read either


@pytest.mark.parametrize("case", (ANYBODY | BY_CLIENTS).values(), ids=ANYBODY | BY_CLIENTS)
async def test_client_that_breaks_a_rule(
    connect: Make, folder: Path, case: tuple[type[WireViolationError], bytes]
) -> None:
    """Its connection ends, with the code; its call is cancelled, and other clients are served as before."""
    expected, sent = case
    server, channel = await connect(address=UnixAddress(str(folder / "ours")))
    others = set(server._protocols)
    async with asyncio.timeout(10), connected_wire(str(folder / "ours")) as wire:
        await wire.greet_server()
        wire.request(1, RELAY, message(b"x"), end=False)
        await wire.until(frames.DATA)
        (protocol,) = server._protocols - others
        wire.send(sent)
        assert await wire.ended() in {expected.code, None}
        assert type(protocol.failure()) is expected
    assert await call_unary(channel, "Echo", b"y") == b"y"
    assert (server.connections, server.in_flight) == (1, 0)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01", b"PRI * HTTP/3.0\r\n", PING], ids=repr
)
async def test_client_that_begins_otherwise(connect: Make, folder: Path, sent: bytes) -> None:
    """Who does not speak HTTP/2 is told so at once."""
    server, channel = await connect(address=UnixAddress(str(folder / "ours")))
    others = set(server._protocols)
    async with asyncio.timeout(10), connected_wire(str(folder / "ours")) as wire:
        await wire.until(frames.SETTINGS)
        (protocol,) = server._protocols - others
        wire.send(sent)
        assert await wire.ended() == ErrorCode.PROTOCOL_ERROR
        assert isinstance(protocol.failure(), PrefaceError)
    assert await call_unary(channel, "Echo", b"y") == b"y"


async def _say_nothing(wire: Wire) -> None:
    await wire.ended()


async def _speak_and_not_listen(wire: Wire) -> None:
    wire.send(frames.settings(()))
    await asyncio.sleep(60)


async def _speak_something_else(wire: Wire) -> None:
    wire.send(b"220 localhost ESMTP\r\n")
    await asyncio.sleep(60)


@pytest.mark.parametrize("act", [_say_nothing, _speak_and_not_listen, _speak_something_else])
async def test_server_that_does_not_speak(folder: Path, act: Callable[[Wire], Any]) -> None:
    """A peer that accepts and says nothing, or something else, is no plugin when the time to connect is over."""
    async with asyncio.timeout(5), raw_server(folder / "raw", act):
        with pytest.raises(ConnectError):
            await dial(UnixAddress(str(folder / "raw")), timeout=0.2, engine="lean")


async def test_client_that_asks_and_does_not_read(connect: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that a client leaves unread are bounded, in this process and not only in the kernel."""
    monkeypatch.setattr(server_module, "wire_settings", lambda _: WireSettings(output_backlog=100_000))
    server, _ = await connect(address=UnixAddress(str(folder / "ours")))
    others = set(server._protocols)
    async with asyncio.timeout(20), connected_wire(str(folder / "ours")) as wire:
        await wire.greet_server()
        (protocol,) = server._protocols - others
        wire.pause()
        stream = 1
        while protocol.failure is None:
            for _ in range(100):
                wire.request(stream, "/no/such")
                stream += 2
            await asyncio.sleep(0)
            if protocol.transport is not None:
                assert protocol.transport.get_write_buffer_size() < 400_000
        assert isinstance(protocol.failure(), FloodError)


async def test_server_that_does_not_read(folder: Path) -> None:
    """Requests to a server that does not read wait for their deadlines, in no more memory than the windows allow."""

    async def act(wire: Wire) -> None:
        await wire.greet_client()
        wire.send(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 1 << 20)]), window_update(0, 1 << 20))
        await wire.until(frames.SETTINGS, frames.ACK)
        wire.pause()
        await asyncio.sleep(60)

    async with asyncio.timeout(10), raw_server(folder / "raw", act):
        channel: Any = await dial(UnixAddress(str(folder / "raw")), timeout=5, engine="lean")
        calls = [channel.unary(HANG, Blob(bytes(50_000)), Blob, timeout=0.3) for _ in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(found).__name__ for found in results} == {"DeadlineExceededError"}
        assert channel.wire.transport.get_write_buffer_size() < 4 << 20
        channel.close()
        await channel.wait_closed()


async def test_reply_between_floods_is_a_reply(folder: Path) -> None:
    """Half a budget of noise around a reply costs nothing."""

    async def act(wire: Wire) -> None:
        await wire.greet_client()
        for _ in range(2):
            await wire.until(frames.DATA, frames.END_STREAM)
            stream = wire.seen[-1][2]
            wire.send(PING * 2000, answer(stream), frame(0xBE, 0, 0) * 2000)

    async with asyncio.timeout(10), raw_server(folder / "raw", act):
        channel: Any = await dial(UnixAddress(str(folder / "raw")), timeout=5, engine="lean")
        for _ in range(2):
            assert (await channel.unary(ECHO, Blob(b"x"), Blob)).data == b"reply"
        channel.close()
        await channel.wait_closed()
