"""Bytes as a service, over a connection in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from grpclib.exceptions import GRPCError

from supervisor.services.byte_streams import CHUNK_LIMIT, ByteReader, ByteSink, ByteSource, ByteWriter
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


class Numbers:
    """An endless source that says how far it was read, and whether it was closed."""

    def __init__(self) -> None:
        self.produced = 0
        self.closed = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield chunks of 64 KiB for ever."""
        try:
            while True:
                self.produced += 1
                yield bytes(CHUNK_LIMIT)
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
async def test_source_is_read_to_its_end(connect: Connect, kind: str) -> None:
    """Empty chunks mean nothing, large ones are cut, and nothing is lost."""
    chunks = [b"one", b"", bytes(range(256)) * 1000, b"end"]

    async def later() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    reader = ByteReader(await connect(ByteSource(chunks if kind == "iterable" else later())))
    received = [chunk async for chunk in reader]

    assert b"".join(received) == b"".join(chunks)
    assert max(map(len, received)) <= CHUNK_LIMIT


async def test_source_waits_for_its_reader(connect: Connect) -> None:
    """What was not read is not produced, but for a window; a reader that leaves closes the source."""
    numbers = Numbers()
    reader = aiter(ByteReader(await connect(ByteSource(numbers.chunks()))))
    await anext(reader)
    for _ in range(200):
        await asyncio.sleep(0)

    assert numbers.produced < 64
    await reader.aclose()  # type: ignore[attr-defined]  # it is a generator
    await asyncio.wait_for(numbers.closed.wait(), 5)


async def test_plain_source_is_closed_when_its_reader_leaves(connect: Connect) -> None:
    """A file that a generator holds open is closed, as one of an asynchronous generator is."""
    closed = asyncio.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(CHUNK_LIMIT)
        finally:
            closed.set()

    source = endless()  # referred to, so that it is not the collector that closes it
    reader = aiter(ByteReader(await connect(ByteSource(source))))
    await anext(reader)
    await reader.aclose()  # type: ignore[attr-defined]  # it is a generator
    async with asyncio.timeout(5):
        await closed.wait()


async def test_source_that_fails_fails_its_reader(connect: Connect) -> None:
    """An end would look like the end of the bytes."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise OSError("the disk is gone")

    reader = ByteReader(await connect(ByteSource(failing())))

    with pytest.raises(GRPCError):
        _ = [chunk async for chunk in reader]
    assert [str(error) for error in told] == ["the disk is gone"]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_sink_takes_what_is_written(connect: Connect, kind: str) -> None:
    """In order; the writer hears how much it was."""
    taken = bytearray()

    async def take(chunk: bytes) -> None:
        await asyncio.sleep(0)
        taken.extend(chunk)

    sink = ByteSink(taken.extend if kind == "function" else take)
    data = bytes(range(256)) * 2000

    assert await ByteWriter(await connect(sink)).write([data, b"", b"end"]) == len(data) + 3
    assert taken == data + b"end"


async def test_sink_that_fails_stops_its_writer(connect: Connect) -> None:
    """The source of the bytes is closed, and the writer gets the error."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    numbers = Numbers()

    def take(_: bytes) -> None:
        raise OSError("the disk is full")

    with pytest.raises(GRPCError):
        await asyncio.wait_for(ByteWriter(await connect(ByteSink(take))).write(numbers.chunks()), 10)
    assert numbers.closed.is_set()


async def test_writer_that_fails_does_not_look_finished(connect: Connect) -> None:
    """The sink's handler is cancelled, so that half of the bytes are not taken for all."""
    ended: list[str] = []
    taken = asyncio.Event()

    class Sink(ByteSink):
        async def _write(self, stream: object) -> None:
            try:
                await super()._write(stream)  # type: ignore[arg-type]  # as it came
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("finished")

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        await taken.wait()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await ByteWriter(await connect(Sink(lambda _: taken.set()))).write(failing())
    async with asyncio.timeout(5):
        while not ended:
            await asyncio.sleep(0)
    assert ended == ["cancelled"]
