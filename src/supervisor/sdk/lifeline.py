"""The lifeline: a pipe that only the host holds. When it ends the host is gone, however it went."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

__all__ = ["watch_lifeline"]


def watch_lifeline(descriptor: int, before_exit: Callable[[], None]) -> None:
    """End this process, and its children if it leads their group, as soon as `descriptor` reaches its end.

    A thread watches and not the event loop: a loop that is blocked is no reason to outlive the host.

    Args:
        descriptor: the reading end; owned by the watcher from now on.
        before_exit: synchronous clean-up, called from the watching thread.
    """
    threading.Thread(target=_watch, args=(descriptor, before_exit), name="lifeline", daemon=True).start()


def _watch(descriptor: int, before_exit: Callable[[], None]) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:
        # As good as an end: nothing can be told through it any more.
        pass
    try:
        before_exit()
    finally:
        _exit_at_once()


def _exit_at_once() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
