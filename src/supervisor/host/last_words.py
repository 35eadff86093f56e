"""What a process said last on stderr: the part of an exit report that people read first."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["LastWords"]

_SIZE: Final = 16 * 1024
"""Characters kept in all: reports go into errors, events and logs."""

_SHOWN: Final = 200
"""Characters of a line within a sentence."""


class LastWords:
    """The last lines, at most so many and at most 16 Ki characters; of a line that alone is longer, its beginning."""

    def __init__(self, limit: int) -> None:
        self._lines: deque[str] = deque()
        self._limit = limit
        self._size = 0

    def add(self, line: str) -> None:
        """Take a line; forgets the oldest ones when there is no room."""
        self._lines.append(line if len(line) <= _SIZE else f"{line[: _SIZE - 1]}…")
        self._size += len(self._lines[-1])
        while self._size > _SIZE or len(self._lines) > self._limit:
            self._size -= len(self._lines.popleft())

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, oldest first."""
        return tuple(self._lines)

    def __str__(self) -> str:
        """Quote the last one, for an error's hint."""
        if not self._lines:
            return "it printed nothing on stderr"
        last = self._lines[-1]
        return f"its last line on stderr: {last if len(last) <= _SHOWN else f'{last[:_SHOWN]}…'}"
