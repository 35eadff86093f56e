"""What a plugin prints, raw, to whatever the application gave to write it to."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from supervisor.abc import Writer

__all__ = ["Output", "Stdio"]

_LIMIT: Final = 1024 * 1024
"""Bytes that may wait for a writer before the plugin's stream is left unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """Where a plugin's prints go: every byte as it was printed, by the way of go-plugin's SyncStdout and SyncStderr.

    What has no writer becomes log records, line by line; what has one does not. A writer is called from a thread and
    may block: the plugin's stream is left unread while 1 MiB waits for it, so that a plugin in Go waits in its print,
    and one in Python loses its oldest output when 16 MiB more have come. Calls, records and other writers do not wait.
    What waits longer than a quarter of a second after the plugin's end is written all the same, and nobody waits for
    that. A writer that raises is not called again: what is printed from then on becomes log records.

    Attributes:
        stdout: for what is printed to `os.Stdout`, or to `sys.stdout`.
        stderr: for what is printed to `os.Stderr`, or to `sys.stderr`. Whatever a plugin writes to the descriptor, its
            crash reports among that, becomes log records.
    """

    stdout: Writer | None = None
    stderr: Writer | None = None


class Output:
    """Writes chunks in their order, in a thread that lives while there are any. To be used from one loop."""

    def __init__(self, writer: Writer) -> None:
        self.error: BaseException | None = None
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._working = False
        self._progress = asyncio.Event()

    def put(self, chunk: bytes) -> bool:
        """Take a chunk; False when the writer has raised, and then it was not taken. Never blocks."""
        with self._lock:
            if self.error is not None:
                return False
            self._chunks.append(chunk)
            self._size += len(chunk)
            idle, self._working = not self._working, True
        if idle:
            # A daemon: a writer that blocks for ever must not keep the program from ending.
            threading.Thread(target=self._work, name="plugin output", daemon=True).start()
        return True

    async def wait_room(self) -> None:
        """Wait while too much waits for the writer."""
        await self._wait(lambda: self._size <= _LIMIT)

    async def wait_written(self) -> None:
        """Wait until everything is written, or the writer has raised."""
        await self._wait(lambda: not self._working)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        while True:
            progress = self._progress
            if reached():
                return
            await progress.wait()

    def _work(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # noqa: BLE001  # a writer is foreign code, and nobody waits for this thread
            with self._lock:
                self.error = error
                self._chunks.clear()
                self._size = 0
                self._working = False
        self._tell()

    def _write_all(self) -> None:
        unflushed = False
        while True:
            with self._lock:
                chunk = self._chunks.popleft() if self._chunks else b""
                if not (chunk or unflushed):
                    self._working = False
                    return
            if chunk:
                _write(self._writer, chunk)
                with self._lock:
                    self._size -= len(chunk)
                self._tell()
            elif (flush := getattr(self._writer, "flush", None)) is not None:
                flush()
            unflushed = bool(chunk)

    def _tell(self) -> None:
        # The loop may be closed: the writer was slower than the whole supervisor.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()


def _write(writer: Writer, data: bytes) -> None:
    while data:
        written = writer.write(data)
        # An unbuffered file may take less than all, and says so.
        data = data[written:] if isinstance(written, int) and 0 < written < len(data) else b""
