"""Lines to records, with the lines of a traceback or a crash dump joined into one."""

from __future__ import annotations

from supervisor.levels import Level
from supervisor.log_lines.blocks import Block, open_block
from supervisor.log_lines.parsing import parse_line
from supervisor.log_lines.splitting import Line
from supervisor.quoting import escape_text
from supervisor.records import ExceptionRecord, LogRecord, LogSource

__all__ = ["RecordAssembler"]


class RecordAssembler:
    """Turn lines into records; a Python traceback, a faulthandler dump or a Go panic becomes one record at ERROR.

    Where such a report ends shows only on the line after it. So call `flush()` when the stream ends, and also when it
    has been quiet for a moment: a quarter of a second is long for a program and short for a reader. Blank lines
    outside of a report are left out.

    A report longer than `max_lines` or `max_size` bytes comes as several records, all but the last marked as
    truncated; more than that and a line is never kept.
    """

    def __init__(
        self, *, source: LogSource = LogSource.STDERR, max_lines: int = 1000, max_size: int = 256 * 1024
    ) -> None:
        self._source = source
        self._max_lines = max_lines
        self._max_size = max_size
        self._block: Block | None = None
        self._lines: list[str] = []
        self._size = 0
        self._continued = False

    @property
    def pending(self) -> bool:
        """Whether a report is being read, so that a flush would give something."""
        return self._block is not None

    def feed(self, line: Line) -> list[LogRecord]:
        """Take the next line and return the records that it completes. Never raises."""
        text = line.data.decode("utf-8", "backslashreplace")
        if self._block is not None:
            if self._block.accepts(text):
                return self._keep(text, len(line.data))
            return [*self.flush(), *self.feed(line)]
        self._block = None if line.truncated else open_block(text)
        if self._block is not None:
            return self._keep(text, len(line.data))
        if _is_blank(text):
            return []
        return [parse_line(text, source=self._source, truncated=line.truncated)]

    def flush(self) -> list[LogRecord]:
        """Return the report that was being read, as far as it came."""
        block, lines, continued = self._block, self._lines, self._continued
        self._block, self._lines, self._size, self._continued = None, [], 0, False
        if block is None or not lines:
            return []
        if not block.confirmed:
            return [parse_line(text, source=self._source) for text in lines if not _is_blank(text)]
        while lines and not lines[-1]:
            lines.pop()
        return [self._report(block, lines, continued=continued)] if lines else []

    def _keep(self, text: str, size: int) -> list[LogRecord]:
        self._lines.append(text)
        self._size += size + 1
        if self._block is None or (len(self._lines) < self._max_lines and self._size < self._max_size):
            return []
        if not self._block.confirmed:
            return self.flush()
        record = self._report(self._block, self._lines, continued=self._continued, truncated=True)
        self._lines, self._size, self._continued = [], 0, True
        return [record]

    def _report(self, block: Block, lines: list[str], *, continued: bool, truncated: bool = False) -> LogRecord:
        exception = block.read(lines)
        event = _headline(exception) or escape_text(lines[0])
        return LogRecord(
            level=Level.ERROR,
            event=f"(continued) {event}" if continued else event,
            exception=exception,
            source=self._source,
            truncated=truncated,
        )


def _is_blank(text: str) -> bool:
    """Whether a line shows nothing; other controls than blanks are content, and become visible escapes."""
    return not text.strip(" \t\r\v\f")


def _headline(exception: ExceptionRecord) -> str:
    return f"{exception.type}: {exception.message}" if exception.message else exception.type
