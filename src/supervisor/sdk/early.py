"""What importing the sdk does in a program that a host has started, for the time until it serves.

Descriptor 1 leads to the host, which takes the first line for the handshake: go-plugin's hosts give up on a plugin that
prints anything before. And a traceback is text of no level to them, so that a plugin with a mistake in its configuration
fails without a word in most logs.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
from contextlib import suppress
from types import TracebackType

from supervisor.sdk.descriptors import STDOUT_FD, StderrWriter, claim_stdout

__all__ = ["give_stdout_back", "prepare", "take_stdout"]

_EVERY_HOST_SETS = "PLUGIN_PROTOCOL_VERSIONS"

_claimed: list[int] = []


def prepare() -> None:
    """Keep the pipe to the host for the handshake, and say what nobody catches as a record. For plugins only.

    A program is one if a host's variable is set and its stdout is a pipe or a socket. `serve` removes that variable, so
    that a program which a plugin starts is none.
    """
    if _EVERY_HOST_SETS in os.environ and not _claimed and _is_pipe(STDOUT_FD):
        _claimed.append(claim_stdout())
        sys.excepthook = _report_uncaught
        # What was imported stays, so nobody needs to look for garbage in it, now or ever.
        gc.freeze()


def take_stdout() -> int:
    """Return the descriptor that leads to the host, once; from now on descriptor 1 is stderr."""
    return _claimed.pop() if _claimed else claim_stdout()


def give_stdout_back() -> None:
    """Undo what `prepare` did to stdout: it was not a host that started this program."""
    while _claimed:
        claimed = _claimed.pop()
        os.dup2(claimed, STDOUT_FD)
        os.close(claimed)


def _is_pipe(descriptor: int) -> bool:
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return False


def _report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    try:
        from supervisor.levels import Level  # noqa: PLC0415  # nothing else needs them before there is an error
        from supervisor.sdk.hclog import format_line  # noqa: PLC0415
        from supervisor.sdk.tracebacks import describe_exception  # noqa: PLC0415

        line = format_line(
            Level.CRITICAL,
            f"uncaught {kind.__name__} before serve()",
            logged_at=time.time(),
            exception=describe_exception(error),
        )
    except Exception:  # noqa: BLE001  # whatever is broken here, the error is not to be lost
        sys.__excepthook__(kind, error, trace)
    else:
        StderrWriter().write(line)
