"""The plugin's standard descriptors: stdout belongs to the handshake, stdin to the host, stderr to everybody."""

from __future__ import annotations

import os
import select
import threading
from typing import Final

__all__ = ["STDERR_FD", "StderrWriter", "claim_stdin", "claim_stdout"]

STDIN_FD: Final = 0
STDOUT_FD: Final = 1
STDERR_FD: Final = 2

_PATIENCE: Final = 1.0
"""Seconds that a writer waits for a host that does not read its plugin's stderr."""

_ATOMIC: Final = 4096
"""PIPE_BUF: what a pipe that is ready takes without blocking."""


def claim_stdout() -> int:
    """Put the real stdout aside and return its descriptor; from now on descriptor 1 is stderr.

    A stray print, a C library or a child process can then neither spoil the handshake nor block on a pipe that nobody
    reads. What `sys.stdout` holds goes to stderr as well.
    """
    _ensure_stderr()
    claimed = os.dup(STDOUT_FD)
    os.dup2(STDERR_FD, STDOUT_FD)
    return claimed


def claim_stdin() -> int:
    """Put the real stdin aside and return its descriptor; from now on descriptor 0 is empty."""
    claimed = os.dup(STDIN_FD)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN_FD)
    os.close(nothing)
    return claimed


def _ensure_stderr() -> None:
    try:
        os.fstat(STDERR_FD)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != STDERR_FD:
            os.dup2(nothing, STDERR_FD)
            os.close(nothing)


class StderrWriter:
    """Writes whole lines to the real stderr, from any thread, and never waits long for who should read them.

    After it has waited in vain once, lines are dropped without waiting until there is room again.
    """

    def __init__(self, descriptor: int = STDERR_FD) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        # Re-entrant: a finalizer may log while this thread is inside.
        self._lock = threading.RLock()
        self._stuck = False
        self._torn = False

    def write(self, data: bytes) -> bool:
        """Write `data`, which ends in a newline; whether it was written. Never raises."""
        with self._lock:
            written = self._write(b"\n" + data if self._torn else data)
            if not written:
                self.dropped += 1
            return written

    def _write(self, data: bytes) -> bool:
        at = 0
        while at < len(data):
            try:
                if not self._wait_for_room():
                    break
                at += os.write(self._descriptor, data[at : at + _ATOMIC])
            except OSError:
                # The host is gone, and stderr with it.
                return False
        self._torn = 0 < at < len(data) or (self._torn and at == 0)
        return at == len(data)

    def _wait_for_room(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        self._stuck = not poll.poll(0 if self._stuck else int(_PATIENCE * 1000))
        return not self._stuck
