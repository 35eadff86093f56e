"""`sys.stdout` and `sys.stderr` inside a plugin: text goes to the host over GRPCStdio, or to stderr while nobody listens."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from supervisor.sdk.descriptors import STDERR_FD, STDOUT_FD

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["StreamedOutput", "replace_stderr", "replace_stdout"]


class StreamedOutput(io.BufferedIOBase):
    """The binary side of the new `sys.stdout` or `sys.stderr`.

    Args:
        stream: takes bytes for the host; False when nobody listens.
        fall_back: takes them then.
        descriptor: what a child process may be given; it leads to stderr.
    """

    def __init__(
        self, stream: Callable[[bytes], bool], fall_back: Callable[[bytes], object], *, descriptor: int = STDOUT_FD
    ) -> None:
        self._stream = stream
        self._fall_back = fall_back
        self.name = f"<{'stdout' if descriptor == STDOUT_FD else 'stderr'}>"
        self._descriptor = descriptor
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
        return self._descriptor


def replace_stdout(stream: Callable[[bytes], bool], fall_back: Callable[[bytes], object]) -> None:
    """Make a `StreamedOutput` the program's `sys.stdout`, line by line; what it held goes to its descriptor."""
    _flush(sys.stdout)
    sys.stdout = _as_text(StreamedOutput(stream, fall_back, descriptor=STDOUT_FD))


def replace_stderr(stream: Callable[[bytes], bool], fall_back: Callable[[bytes], object]) -> None:
    """Make a `StreamedOutput` the program's `sys.stderr`, line by line; what it held goes to its descriptor."""
    _flush(sys.stderr)
    sys.stderr = _as_text(StreamedOutput(stream, fall_back, descriptor=STDERR_FD))


def _flush(output: TextIO | None) -> None:
    with suppress(OSError, ValueError, AttributeError):  # closed, none, or the author's own
        output.flush()  # type: ignore[union-attr]  # None is suppressed


def _as_text(output: StreamedOutput) -> io.TextIOWrapper:
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)
