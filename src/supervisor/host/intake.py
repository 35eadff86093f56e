"""From the bytes a plugin prints to log records: always drained, bounded, never in the way of the host's loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from supervisor.abc import ByteSource
from supervisor.log_lines import Line, LineSplitter, RecordAssembler
from supervisor.quoting import escape_text
from supervisor.records import LogRecord, LogSource
from supervisor.terms import Limits

__all__ = ["LineIntake"]

_SLICE: Final = 0.002
"""Seconds of parsing between two turns of the loop: what a flood may add to everybody's latency."""

_BURST: Final = 256 * 1024
"""Bytes that a flooding pipe is read of between two pauses."""

_PAUSE: Final = 0.001
"""Seconds of such a pause: what is left of the machine when a plugin floods. Meanwhile the plugin is blocked in its
write, which costs nothing; reading goes on at more than 100 MB/s."""

_SALVAGED: Final = 200
"""Lines that are still parsed when time is up: the last ones explain the end, more would hold up the loop."""

_REPORT: Final = 1.0
"""Seconds between two reports of what a flood has lost so far."""

_QUIET: Final = 0.25
"""Seconds without a line after which an unfinished traceback is taken as complete."""


class LineIntake:
    """A reader that never stops and a parser that works in slices, with a bounded backlog between them.

    When the backlog is full the oldest bytes go, because a plugin's last words matter most. Lost lines are counted
    exactly: every newline belongs to one line, and each line is either parsed or counted.
    """

    def __init__(
        self,
        source: LogSource,
        limits: Limits,
        *,
        on_record: Callable[[LogRecord], None],
        on_dropped: Callable[[LogSource, int, int], None],
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._source = source
        self._limit = limits.log_backlog
        self._splitter = LineSplitter(limits.log_line)
        self._assembler = RecordAssembler(source=source)
        self._on_record = on_record
        self._on_dropped = on_dropped
        self._on_line = on_line
        self._backlog: deque[bytes] = deque()
        self._lines: deque[Line] = deque()
        self._size = 0
        self._gap = False
        self._gap_inside_line = False
        self._dropped = 0
        self._reported = 0
        self._reported_at = 0.0
        self._closed = False
        self._news = anyio.Event()

    def push(self, chunk: bytes) -> None:
        """Take a chunk; drops the oldest ones when the backlog is full. Never blocks."""
        self._backlog.append(chunk)
        self._size += len(chunk)
        while self._size > self._limit and len(self._backlog) > 1:
            lost = self._backlog.popleft()
            self._size -= len(lost)
            self._dropped += lost.count(b"\n")
            self._gap, self._gap_inside_line = True, not lost.endswith(b"\n")
        self._news.set()

    def close(self) -> None:
        """Say that no more chunks come; `work` ends after what is here."""
        self._closed = True
        self._news.set()

    async def read(self, pipe: ByteSource) -> None:
        """Push everything that `pipe` yields until its end, then close."""
        unpaused = 0
        try:
            while True:
                chunk = await pipe.receive()
                dropped = self._dropped
                self.push(chunk)
                unpaused = unpaused + len(chunk) if self._dropped > dropped else 0
                if unpaused >= _BURST:
                    await anyio.sleep(_PAUSE)
                    unpaused = 0
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            pass
        finally:
            self.close()

    async def work(self) -> None:
        """Turn the backlog into records until closed and empty."""
        try:
            while True:
                await self.parse_backlog()
                self._report_dropped()
                if self._closed and not self._backlog:
                    return
                await self._await_news()
        finally:
            self._salvage()
            self._tell(self._assembler.flush())
            self._report_dropped()

    async def _await_news(self) -> None:
        self._news = anyio.Event()
        if self._backlog or self._closed:
            return
        with anyio.move_on_after(_QUIET if self._assembler.pending else None):
            await self._news.wait()
            return
        self._tell(self._assembler.flush())

    async def parse_backlog(self) -> None:
        """Parse what is here, in slices."""
        until, dropped = time.perf_counter() + _SLICE, self._dropped
        while self._backlog:
            chunk = self._backlog.popleft()
            self._size -= len(chunk)
            if self._gap:
                chunk = self._bridge_gap(chunk)
            self._lines.extend(self._splitter.feed(chunk))
            while self._lines:
                self._parse(self._lines.popleft())
                if time.perf_counter() > until:
                    # In a flood most of it is lost anyway: two thirds of the time are everybody else's.
                    flooded, dropped = self._dropped > dropped, self._dropped
                    if flooded and time.monotonic() - self._reported_at >= _REPORT:
                        self._report_dropped()
                    await (anyio.sleep(2 * _SLICE) if flooded else checkpoint())
                    until = time.perf_counter() + _SLICE

    def _salvage(self) -> None:
        """Parse the last lines of what is left and count the others, without waiting: the end, or a cut, is here."""
        while self._backlog:
            chunk = self._backlog.popleft()
            self._size -= len(chunk)
            self._lines.extend(self._splitter.feed(self._bridge_gap(chunk) if self._gap else chunk))
        self._lines.extend(self._splitter.flush())
        while len(self._lines) > _SALVAGED:
            self._lines.popleft()
            self._dropped += 1
        while self._lines:
            self._parse(self._lines.popleft())

    def _bridge_gap(self, chunk: bytes) -> bytes:
        """Return what of `chunk` starts at a line boundary, after bytes before it were dropped."""
        for head in self._splitter.flush():
            self._parse(head._replace(truncated=True))
            self._dropped -= 1  # its newline was counted with the lost bytes
        if not self._gap_inside_line:
            self._gap = False
            return chunk
        start = chunk.find(b"\n") + 1
        if start:
            self._dropped += 1
            self._gap = self._gap_inside_line = False
            return chunk[start:]
        return b""

    def _parse(self, line: Line) -> None:
        if self._on_line is not None:
            self._on_line(escape_text(line.data.decode("utf-8", "replace")))
        self._tell(self._assembler.feed(line))

    def _tell(self, records: list[LogRecord]) -> None:
        for record in records:
            self._on_record(record)

    def _report_dropped(self) -> None:
        self._reported_at = time.monotonic()
        if self._dropped > self._reported:
            self._on_dropped(self._source, self._dropped - self._reported, self._dropped)
            self._reported = self._dropped
