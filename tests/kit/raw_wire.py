"""The other end of a real socket, spoken by hand, frame by frame, with whatever frames a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from hpack import Decoder, Encoder

from supervisor.testing.raw_peer import message
from supervisor.transport.engine import frames
from supervisor.transport.engine.frames import FRAME_HEAD, frame, header_frames

__all__ = ["Wire", "answer", "connected_wire", "raw_server"]

_PATIENCE = 10.0


class Wire:
    """One end.

    Attributes:
        seen: the frames that have arrived and were taken, as kind, flags, stream and payload.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.decoder = Decoder()

    def send(self, *parts: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(parts))

    async def take(self) -> tuple[int, int, int, bytes]:
        """Wait for the next frame.

        Raises:
            asyncio.IncompleteReadError: there is none: the other side has closed the socket.
        """
        async with asyncio.timeout(_PATIENCE):
            kind, flags, stream = FRAME_HEAD.unpack(await self._reader.readexactly(FRAME_HEAD.size))
            taken = kind & 0xFF, flags, stream, await self._reader.readexactly(kind >> 8)
        self.seen.append(taken)
        return taken

    async def until(self, kind: int, flags: int = 0) -> tuple[int, int, int, bytes]:
        """Wait for a frame of a kind that has some flags."""
        while (taken := await self.take())[0] != kind or taken[1] & flags != flags:
            pass
        return taken

    async def ended(self) -> int | None:
        """Wait for the end; return the code of the GOAWAY before it."""
        code = None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, _, _, payload = await self.take()
                if kind == frames.GOAWAY:
                    code = int.from_bytes(payload[4:8], "big")
        return code

    async def greet_client(self) -> None:
        """Read a client's preface, and exchange settings."""
        async with asyncio.timeout(_PATIENCE):
            assert await self._reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        self.send(frames.settings(()), frame(frames.SETTINGS, frames.ACK, 0))
        await self.until(frames.SETTINGS, frames.ACK)

    async def greet_server(self) -> None:
        """Exchange settings with a server."""
        self.send(frames.PREFACE, frames.settings(()), frame(frames.SETTINGS, frames.ACK, 0))
        await self.until(frames.SETTINGS, frames.ACK)

    def request(self, stream: int, path: str, body: bytes = b"", *, end: bool = True, more: bytes = b"") -> None:
        """Send a request whose block leaves the dynamic table alone."""
        fields = {
            ":method": "POST", ":scheme": "http", ":path": path, "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        block = Encoder().encode([(key, value, True) for key, value in fields.items()]) + more
        self.send(header_frames(stream, block, end=False, frame_size=16_384))
        self.send(frame(frames.DATA, frames.END_STREAM if end else 0, stream, body))

    def pause(self) -> None:
        """Read nothing any more."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it


def answer(stream: int, data: bytes = b"reply") -> bytes:
    """Return a whole reply."""
    head = Encoder().encode([(":status", "200", True), ("content-type", "application/grpc", True)])
    end = Encoder().encode([("grpc-status", "0", True)])
    return b"".join(
        (
            header_frames(stream, head, end=False, frame_size=16_384),
            frame(frames.DATA, 0, stream, message(data)),
            header_frames(stream, end, end=True, frame_size=16_384),
        )
    )


@contextlib.asynccontextmanager
async def raw_server(path: Path, act: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[None]:
    """Serve a unix socket, on each connection of which `act` does what it likes."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(wire: Wire) -> None:
        try:
            await act(wire)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side had enough
        finally:
            wire.writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(run(Wire(reader, writer))))

    server = await asyncio.start_unix_server(accept, str(path), limit=1 << 26)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, Exception):
                raise found


@contextlib.asynccontextmanager
async def connected_wire(path: str) -> AsyncIterator[Wire]:
    """Connect to a unix socket."""
    wire = Wire(*await asyncio.open_unix_connection(path, limit=1 << 26))
    try:
        yield wire
    finally:
        wire.writer.transport.abort()
