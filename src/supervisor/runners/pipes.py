"""The reading end of a child's stdout or stderr, on the event loop: no thread, no executor, no buffer of its own.

Nothing is read while nobody asks, so a plugin that writes faster than the host consumes is held back by the full pipe.
Needs an event loop with `add_reader` (the selector loops and uvloop).
"""

from __future__ import annotations

import asyncio
import os

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["PipeReader"]

CHUNK = 64 * 1024


class PipeReader:
    """A `ByteSource` over a descriptor that it owns. One reader at a time."""

    __slots__ = ("_descriptor", "_loop", "_waiter")

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        os.set_blocking(descriptor, False)  # this end is ours alone: the child's end still blocks
        self._descriptor = descriptor
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    async def receive(self) -> bytes:
        """Return the next chunk, of at most 64 KiB. Safe to cancel: no byte is lost.

        Raises:
            anyio.EndOfStream: every writer has closed its end.
            anyio.ClosedResourceError: `close()` was called, also while waiting.
            anyio.BusyResourceError: somebody else is waiting already.
        """
        # Before the read, not after it: a flood must not starve the loop, and a cancellation must not lose a chunk.
        await checkpoint()
        while True:
            if self._descriptor < 0:
                raise anyio.ClosedResourceError
            if self._waiter is not None:
                raise anyio.BusyResourceError("reading from")
            try:
                chunk = os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                await self._wait_readable()
                continue
            if not chunk:
                raise anyio.EndOfStream
            return chunk

    async def _wait_readable(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_reader(self._descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None
                self._loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """Close the descriptor and wake the reader; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)
            if not waiter.done():
                waiter.set_exception(anyio.ClosedResourceError())
        os.close(descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
