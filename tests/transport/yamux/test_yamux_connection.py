"""Streams of a multiplexed connection as asyncio transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from supervisor.errors import ConnectionLostError, ProtocolViolationError
from supervisor.testing.virtual_time import VirtualTimeLoop
from supervisor.transport.memory import join_memory
from supervisor.transport.yamux.connection import Multiplexer
from supervisor.transport.yamux.frames import Flags, Kind, encode_header
from supervisor.transport.yamux.session import WINDOW
from supervisor.transport.yamux.streams import StreamTransport


@pytest.fixture(autouse=True)
def clean(no_task_left: None) -> None:
    """Hold every test in this file to leaving no task behind."""


class End(asyncio.Protocol):
    """One end of a stream, which keeps what happens to it."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.received = bytearray()
        self.ended = False
        self.paused = 0
        self.resumed = 0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        self._keep_open = keep_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.news.set()

    def eof_received(self) -> bool:
        self.ended = True
        self.news.set()
        return self._keep_open

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.resumed += 1
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait for news that make `ready` true; bounded."""
        async with asyncio.timeout(10):
            while not ready():
                self.news.clear()
                await self.news.wait()


class Raw(asyncio.Protocol):
    """The raw connection's other side, without any yamux."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def connected(*, limit: int = 100) -> tuple[Multiplexer, Multiplexer, list[End]]:
    """Return a client, a server, and the server's ends of streams."""
    client, server = Multiplexer(client=True, limit=limit), Multiplexer(client=False, limit=limit)
    accepted: list[End] = []

    def accept() -> End:
        accepted.append(End())
        return accepted[-1]

    server.accept = accept
    join_memory(client, server)
    return client, server, accepted


async def turns(count: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_bytes_go_both_ways() -> None:
    """A stream is a connection: what one end writes the other receives."""
    client, _, accepted = connected()
    near = End()
    client.open(near).write(b"question")
    await turns()
    accepted[0].transport.write(b"answer")
    await near.until(lambda: near.received == b"answer")

    assert accepted[0].received == b"question"
    client.close()
    await turns()


async def test_server_opens_streams_too() -> None:
    """Who connected and who opens a stream are two questions."""
    client, server, _ = connected()
    far = End()
    client.accept = lambda: far
    server.open(End()).write(b"from the server")
    await far.until(lambda: bool(far.received))

    assert far.received == b"from the server"
    client.close()
    await turns()


async def test_stream_that_nobody_accepts_is_reset() -> None:
    """Its opener loses it; the session goes on."""
    client, server, _ = connected()
    server.accept = lambda: None
    near = End()
    client.open(near)

    assert isinstance(await near.lost, ConnectionResetError)
    assert not client.is_lost
    client.close()
    await turns()


async def test_closing_ends_the_other_side_after_the_last_byte() -> None:
    """Closed with bytes in the window and beyond it: all arrive, then the end, then both have lost the stream."""
    client, server, accepted = connected()
    near = End()
    client.open(near).write(bytes(3 * WINDOW))
    near.transport.close()
    near.transport.write(b"too late")
    await turns()
    (far,) = accepted
    await far.until(lambda: far.ended)

    assert len(far.received) == 3 * WINDOW
    assert (await near.lost, await far.lost) == (None, None)
    assert server.session.streams == client.session.streams == 0
    client.close()
    await turns()


async def test_one_direction_can_end_by_itself() -> None:
    """`write_eof` leaves the other direction open."""
    client, server, _ = connected()
    far, near = End(keep_open=True), End()
    server.accept = lambda: far
    client.open(near).write_eof()
    await far.until(lambda: far.ended)
    far.transport.write(b"still here")
    far.transport.close()
    await near.until(lambda: near.ended)

    assert near.received == b"still here"
    client.close()
    await turns()


async def test_abort_resets() -> None:
    """The other side is told at once."""
    client, _, accepted = connected()
    near = End()
    client.open(near).write(bytes(2 * WINDOW))
    near.transport.abort()
    await near.lost
    await turns()

    assert isinstance(await accepted[0].lost, ConnectionResetError)
    client.close()
    await turns()


async def test_protocol_that_does_not_read_holds_up_its_stream_only() -> None:
    """The writer is told to pause, the stream beside it goes on, and reading again lets all through."""
    client, _, accepted = connected()
    slow, quick = End(), End()
    client.open(slow)
    client.open(quick)
    await turns()
    accepted[0].transport.pause_reading()
    slow.transport.write(bytes(3 * WINDOW))
    quick.transport.write(b"quick")
    await accepted[1].until(lambda: accepted[1].received == b"quick")

    await turns(20)

    assert (len(accepted[0].received), slow.paused, slow.resumed) == (0, 1, 0)
    assert slow.transport.get_write_buffer_size() == 2 * WINDOW
    accepted[0].transport.resume_reading()
    await slow.until(lambda: slow.resumed == 1)
    await accepted[0].until(lambda: len(accepted[0].received) == 3 * WINDOW)
    client.close()
    await turns()


async def test_streams_wait_while_the_raw_connection_is_full() -> None:
    """Bytes stay with their streams, so that those streams' writers hear of it."""
    client = Multiplexer(client=True, limit=10)
    raw = Raw()
    join_memory(client, raw)
    raw.transport.pause_reading()
    near = End()
    client.open(near)
    near.transport.write(bytes(WINDOW))
    await turns()
    near.transport.write(bytes(WINDOW))

    assert near.paused == 1
    raw.transport.resume_reading()
    await turns()
    raw.transport.write(encode_header(Kind.WINDOW_UPDATE, Flags.ACK, 1, WINDOW))
    await near.until(lambda: near.resumed == 1)
    client.close()
    await turns()


async def test_limit_holds_for_both_sides_streams() -> None:
    """One too many is refused here by an error and there by a reset."""
    client, server, _ = connected(limit=2)
    client.open(End())
    client.open(End())
    with pytest.raises(ConnectionLostError, match="2 multiplexed streams"):
        client.open(End())
    await turns()
    far = End()
    with pytest.raises(ConnectionLostError, match="2 multiplexed streams"):
        server.open(far)
    client.close()
    await turns()


async def test_streams_end_with_the_raw_connection() -> None:
    """And opening another says so."""
    client, server, accepted = connected()
    near = End()
    client.open(near)
    await turns()
    server.close()

    assert isinstance(await near.lost, ConnectionLostError)
    assert isinstance(await accepted[0].lost, ConnectionLostError)
    await client.closed
    with pytest.raises(ConnectionLostError, match="has ended"):
        client.open(End())


async def test_violation_ends_the_streams_with_its_error() -> None:
    """The peer hears a go-away frame and is hung up on."""
    server, raw = Multiplexer(client=False, limit=10), Raw()
    ends: list[End] = []

    def accept() -> End:
        ends.append(End())
        return ends[-1]

    server.accept = accept
    join_memory(raw, server)
    raw.transport.write(encode_header(Kind.WINDOW_UPDATE, Flags.SYN, 1, 0) * 2)

    await raw.lost.wait()
    assert isinstance(await ends[0].lost, ProtocolViolationError)
    assert raw.received.endswith(encode_header(Kind.GO_AWAY, 0, 0, 1))


async def test_protocol_that_fails_loses_its_stream_only() -> None:
    """As with asyncio's own transports, the loop is told."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    client, server, _ = connected()

    class Broken(End):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    server.accept = Broken
    near, other = End(), End()
    client.open(near).write(b"x")

    assert isinstance(await near.lost, ConnectionResetError)
    server.accept = lambda: other
    client.open(End()).write(b"fine")
    await other.until(lambda: other.received == b"fine")
    assert told == ["a protocol on a yamux stream failed"]
    client.close()
    await turns()


def test_peer_that_never_accepts_ends_the_session_after_75_seconds() -> None:
    """hashicorp/yamux's StreamOpenTimeout; virtual time, so this takes none."""

    async def open_in_vain() -> tuple[float, Exception | None]:
        client = Multiplexer(client=True, limit=10)
        join_memory(client, Raw())
        near = End()
        client.open(near)
        begun = asyncio.get_running_loop().time()
        error = await near.lost
        return asyncio.get_running_loop().time() - begun, error

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        seconds, error = runner.run(open_in_vain())

    assert seconds == 75
    assert isinstance(error, ProtocolViolationError)


def test_peer_that_never_ends_a_closed_stream_has_it_reset_after_a_while() -> None:
    """So that nothing is kept for a peer that forgot the stream; hashicorp/yamux's StreamCloseTimeout."""

    async def close_in_vain() -> tuple[int, bytes]:
        client, raw = Multiplexer(client=True, limit=10), Raw()
        join_memory(client, raw)
        near = End()
        client.open(near)
        raw.transport.write(encode_header(Kind.WINDOW_UPDATE, Flags.ACK, 1, 0))
        await turns()
        near.transport.close()
        await near.lost
        kept = client.session.streams
        await asyncio.sleep(31)
        assert client.session.streams == 0
        client.close()
        await turns()
        return kept, bytes(raw.received[-12:])

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(close_in_vain()) == (1, encode_header(Kind.WINDOW_UPDATE, Flags.RST, 1, 0))
