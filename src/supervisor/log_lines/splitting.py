"""Chunks of a pipe to lines of bounded length."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.errors import ConfigurationError

__all__ = ["Line", "LineSplitter"]

_LONGEST_CHARACTER = 4  # bytes, in UTF-8


class Line(NamedTuple):
    """A line without its newline, or a piece of a line that was longer than the limit."""

    data: bytes
    truncated: bool = False


class LineSplitter:
    r"""Split chunks into lines; however the stream is cut into chunks, the lines are the same.

    A line ends with a newline; one carriage return before it belongs to it, any other is left in the line. A line
    longer than `limit` bytes comes in pieces of at most that, each marked as truncated and none lost; characters in
    UTF-8 stay whole. At most `limit` bytes and a carriage return are kept between calls.

    Raises:
        ConfigurationError: `limit` cannot hold a character.
    """

    def __init__(self, limit: int = 64 * 1024) -> None:
        if limit < _LONGEST_CHARACTER:
            raise ConfigurationError(f"a line limit of {limit} bytes is too small")
        self._limit = limit
        self._partial = bytearray()
        self._inside_long_line = False

    def feed(self, chunk: bytes) -> list[Line]:
        """Take the next chunk and return the lines and pieces that it completes."""
        lines: list[Line] = []
        first, *others = chunk.split(b"\n")
        self._partial += first
        for other in others:
            self._cut(lines)
            self._end_line(lines)
            self._partial += other
        self._cut(lines)
        return lines

    def flush(self) -> list[Line]:
        """Return the unfinished line, if there is one: the stream has ended, or has been quiet for long enough."""
        lines: list[Line] = []
        if self._partial:
            self._end_line(lines)
        self._inside_long_line = False
        return lines

    def _cut(self, lines: list[Line]) -> None:
        # A carriage return at the end may yet turn out to belong to the newline.
        while len(self._partial) > self._limit + self._partial.endswith(b"\r"):
            end = self._limit
            # A byte 10xxxxxx continues a character: step back to where it starts, unless this is not UTF-8 at all.
            while end > self._limit - _LONGEST_CHARACTER and self._partial[end] & 0xC0 == 0x80:  # noqa: PLR2004
                end -= 1
            end = end if end > self._limit - _LONGEST_CHARACTER else self._limit
            lines.append(Line(bytes(self._partial[:end]), truncated=True))
            del self._partial[:end]
            self._inside_long_line = True

    def _end_line(self, lines: list[Line]) -> None:
        if self._partial.endswith(b"\r"):
            del self._partial[-1:]
        lines.append(Line(bytes(self._partial), truncated=self._inside_long_line))
        self._partial.clear()
        self._inside_long_line = False
