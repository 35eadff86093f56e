"""Bytes of any number as a service: a reader or a writer that is passed in a call, by the id it is offered under.

    async with plugin.offer(ByteSource(chunks)) as service_id:
        await stub.upload(Upload(body=service_id))

    async with current().dial(request.body, ByteReader) as body:
        async for chunk in body:
            ...

Flow control is HTTP/2's: whoever is faster waits, and memory holds a window of it.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any, Final

from grpclib.const import Cardinality, Handler

from supervisor._proto.supervisor.streams.v1 import Chunk, ReadRequest, WriteResponse

if TYPE_CHECKING:
    from grpclib.server import Stream

__all__ = ["CHUNK_LIMIT", "ByteReader", "ByteSink", "ByteSource", "ByteWriter", "Chunks"]

CHUNK_LIMIT: Final = 64 * 1024
"""Most bytes in one message; longer chunks are cut."""

_READ: Final = "/supervisor.streams.v1.ByteStream/Read"
_WRITE: Final = "/supervisor.streams.v1.ByteStream/Write"

Chunks = AsyncIterable[bytes] | Iterable[bytes]
"""Where bytes come from. A plain iterable must not block: what it reads from a disk blocks the loop."""


class ByteSource:
    """A servicer whose caller reads `chunks`, once. What they raise ends the reader with an error."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_READ: Handler(self._read, Cardinality.UNARY_STREAM, ReadRequest, Chunk)}

    async def _read(self, stream: Stream[ReadRequest, Chunk]) -> None:
        await stream.recv_message()
        pieces = _pieces(self._chunks)
        try:
            async for piece in pieces:
                await stream.send_message(Chunk(data=piece))
        finally:
            await pieces.aclose()


class ByteSink:
    """A servicer whose caller writes: each chunk is handed to `take`, in order. What that raises ends the writer."""

    def __init__(self, take: Callable[[bytes], Awaitable[object] | object]) -> None:
        self._take = take

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        return {_WRITE: Handler(self._write, Cardinality.STREAM_UNARY, Chunk, WriteResponse)}

    async def _write(self, stream: Stream[Chunk, WriteResponse]) -> None:
        size = 0
        async for message in stream:
            taken = self._take(message.data)
            if isinstance(taken, Awaitable):
                await taken
            size += len(message.data)
        await stream.send_message(WriteResponse(size=size))


class ByteReader:
    """A stub: iterate over what a `ByteSource` has, from its beginning to its end."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        async with self._channel.request(_READ, Cardinality.UNARY_STREAM, ReadRequest, Chunk) as stream:
            await stream.send_message(ReadRequest(), end=True)
            async for message in stream:
                yield message.data


class ByteWriter:
    """A stub: hand bytes to a `ByteSink`."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def write(self, chunks: Chunks) -> int:
        """Send all of `chunks` and return how many bytes the other side took."""
        pieces = _pieces(chunks)
        try:
            async with self._channel.request(_WRITE, Cardinality.STREAM_UNARY, Chunk, WriteResponse) as stream:
                await stream.send_request()
                async for piece in pieces:
                    await stream.send_message(Chunk(data=piece))
                await stream.end()
                response = await stream.recv_message()
        finally:
            await pieces.aclose()
        return int(response.size)


async def _pieces(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    """Yield the chunks, cut to size; closes the iterator they come from if it has to be closed."""
    if isinstance(chunks, AsyncIterable):
        iterator = aiter(chunks)
        try:
            async for chunk in iterator:
                for piece in _cut(chunk):
                    yield piece
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
    else:
        try:
            for chunk in chunks:
                for piece in _cut(chunk):
                    yield piece
        finally:
            if isinstance(chunks, Generator):
                chunks.close()


def _cut(chunk: bytes) -> Iterator[bytes]:
    for start in range(0, len(chunk), CHUNK_LIMIT):
        yield chunk[start : start + CHUNK_LIMIT]
