"""What tells a plugin that its host is gone, however it went: a pipe that only the host holds, or the host's own end."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["end_process", "watch_lifeline", "watch_parent"]


def watch_lifeline(descriptor: int, before_exit: Callable[[], None]) -> None:
    """End this process, and its children if it leads their group, as soon as `descriptor` reaches its end.

    A thread watches and not the event loop: a loop that is blocked is no reason to outlive the host.

    Args:
        descriptor: the reading end; owned by the watcher from now on.
        before_exit: synchronous clean-up, called from the watching thread.
    """
    _watch(lambda: _await_end(descriptor), lambda: end_process(before_exit))


def watch_parent(on_gone: Callable[[], None]) -> None:
    """Call `on_gone`, in a thread, when the process that started this one has ended, if the kernel can tell (Linux 5.3).

    The kernel's parent-death signal would not do: it tells of the end of the thread that started a process, and the
    threads of a host in Go come and go.
    """
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        descriptor = None
    except (AttributeError, OSError):
        return
    if os.getppid() != parent:
        descriptor = None  # it ended before it could be watched, and the pid may be somebody else's by now
    _watch(lambda: _await_process(descriptor), on_gone)


def end_process(before_exit: Callable[[], None]) -> None:
    """End this process at once, and its children if it leads their group. From any thread."""
    try:
        before_exit()
    finally:
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)


def _watch(wait: Callable[[], None], on_gone: Callable[[], None]) -> None:
    def watch() -> None:
        wait()
        on_gone()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _await_end(descriptor: int) -> None:
    # An error is as good as an end: nothing can be told through it any more.
    with suppress(OSError):
        while os.read(descriptor, 4096):
            pass


def _await_process(descriptor: int | None) -> None:
    if descriptor is not None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
