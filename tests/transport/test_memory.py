"""Memory transports behave as sockets do."""

from __future__ import annotations

import asyncio
import gc

import pytest

from supervisor.address import MemoryAddress
from supervisor.errors import TransportError
from supervisor.transport.memory import MemoryListener, MemoryTransport, connect_memory, join_memory


class End(asyncio.Protocol):
    """Records what happens to one end."""

    transport: MemoryTransport

    def __init__(self) -> None:
        self.data = b""
        self.story: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, MemoryTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.story.append("pause")

    def resume_writing(self) -> None:
        self.story.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.story.append("lost")


def pair() -> tuple[End, End]:
    """Return two ends of a connection."""
    ends = End(), End()
    join_memory(*ends)
    return ends


async def turns(count: int = 3) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_bytes_arrive_in_order_and_never_within_write() -> None:
    """What is written arrives in a later turn of the loop, whole and in order."""
    one, other = pair()
    one.transport.write(b"a")
    one.transport.write(b"b")
    assert other.data == b""
    await turns()
    assert other.data == b"ab"


async def test_close_delivers_what_was_written() -> None:
    """`close` lets written bytes arrive, then both ends hear of it; writing afterwards is ignored."""
    one, other = pair()
    one.transport.write(b"last")
    one.transport.close()
    one.transport.write(b"late")
    await turns()
    assert other.data == b"last"
    assert one.story == other.story == ["lost"]
    assert one.transport.is_closing()
    assert other.transport.is_closing()


async def test_abort_drops_what_was_written() -> None:
    """`abort` ends both ends with nothing delivered."""
    one, other = pair()
    one.transport.write(b"lost")
    one.transport.abort()
    await turns()
    assert other.data == b""
    assert one.story == other.story == ["lost"]


async def test_reader_that_pauses_holds_the_writer_back() -> None:
    """Bytes for a paused reader wait at the writer, who is told to pause above 64 KiB and to resume."""
    one, other = pair()
    other.transport.pause_reading()
    one.transport.write(b"x" * 70_000)
    await turns()
    assert (other.data, one.story) == (b"", ["pause"])
    assert one.transport.get_write_buffer_size() == 70_000
    other.transport.resume_reading()
    await turns()
    assert len(other.data) == 70_000
    assert one.story == ["pause", "resume"]


async def test_name_is_free_again_after_close_and_after_collection() -> None:
    """A name belongs to its listener, no longer than that lives."""
    address = MemoryAddress("memory-name")
    listener = MemoryListener(address, End)
    with pytest.raises(TransportError):
        MemoryListener(address, End)
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        connect_memory(address, End())
    second = MemoryListener(address, End)
    end = End()
    connect_memory(address, end)
    assert not end.transport.is_closing()
    end.transport.abort()
    del second
    gc.collect()
    with pytest.raises(ConnectionRefusedError):
        connect_memory(address, End())
