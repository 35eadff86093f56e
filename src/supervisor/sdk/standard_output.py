"""`sys.stdout` inside a plugin: text goes to the host over GRPCStdio, or to stderr while nobody listens."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from supervisor.sdk.descriptors import STDOUT_FD

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["StreamedOutput", "replace_stdout"]


class StreamedOutput(io.BufferedIOBase):
    """The binary side of the new `sys.stdout`.

    Args:
        stream: takes bytes for the host; False when nobody listens.
        fall_back: takes them then.
    """

    def __init__(self, stream: Callable[[bytes], bool], fall_back: Callable[[bytes], object]) -> None:
        self._stream = stream
        self._fall_back = fall_back
        self._owner = os.getpid()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Take all of `data`."""
        chunk = bytes(data)
        # A forked child has the stream's memory, but nobody who sends it.
        if chunk and not (os.getpid() == self._owner and self._stream(chunk)):
            self._fall_back(chunk)
        return len(chunk)

    def fileno(self) -> int:
        """Return the descriptor that a child process may be given: it leads to stderr."""
        return STDOUT_FD


def replace_stdout(output: StreamedOutput) -> None:
    """Make `output` the program's `sys.stdout`, line by line."""
    sys.stdout = io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)
