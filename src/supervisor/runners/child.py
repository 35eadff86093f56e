"""One child process: signalled, waited for and reaped without ever trusting a bare pid.

A pid is somebody else's as soon as the child is reaped, and an embedding application may reap it behind our back (it
ignores SIGCHLD, or waits for any child). A pidfd names the process itself, so it is used wherever the kernel has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Protocol, Self

from supervisor.outcome import ExitStatus

__all__ = ["SIGNAL_PROCESS_GROUP", "Child", "ExitWatch", "watch_exit"]

SIGNAL_PROCESS_GROUP = 1 << 2  # PIDFDSIGNAL_PROCESS_GROUP, Linux 6.9; not named by Python yet
_UNKNOWN = ExitStatus()


class Child:
    """A child of this process whose reaping is ours, as a rule leader of its own process group.

    It stays unreaped until `reap()`: as a zombie it keeps its pid, so that its group can still be signalled.
    """

    __slots__ = ("_leads_group", "_pidfd", "_reaped", "pid")

    def __init__(self, pid: int, *, leads_group: bool = True, use_pidfd: bool = True) -> None:
        """Take charge of a child that was just started.

        Args:
            pid: its process id.
            leads_group: whether it was started in a session of its own; else it shares our own process group.
            use_pidfd: whether to use a pidfd where the platform has them.

        Raises:
            OSError: there was no descriptor left for it.
        """
        self.pid = pid
        self._leads_group = leads_group
        self._reaped = False
        self._pidfd = _open_pidfd(pid) if use_pidfd else -1

    @classmethod
    def adopt(cls, process: subprocess.Popen[bytes], *, leads_group: bool = True, use_pidfd: bool = True) -> Self:
        """Take a child over from `Popen`, which must not reap it any more; kill it if that is not possible.

        Raises:
            OSError: there was no descriptor left for it. The child is gone.
        """
        process.returncode = 0  # not true, but it keeps Popen's hands off
        try:
            return cls(process.pid, leads_group=leads_group, use_pidfd=use_pidfd)
        except OSError:
            (os.killpg if leads_group else os.kill)(process.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
            raise

    @property
    def pidfd(self) -> int:
        """The descriptor that becomes readable when the child ends, or -1 where there is none."""
        return self._pidfd

    @property
    def reaped(self) -> bool:
        """Whether its pid may be somebody else's by now: because of us, or because somebody else waited for it."""
        self.peek()
        return self._reaped

    def peek(self) -> ExitStatus | None:
        """Return how the child ended, without reaping it; None while it runs.

        The status is unknown when somebody else reaped it.
        """
        return self._query(os.WNOHANG | os.WNOWAIT)

    def reap(self) -> None:
        """Let the kernel forget the child, if it has ended."""
        if not self._reaped and self._query(os.WNOHANG) is not None:
            self._reaped = True

    def signal_group(self, number: int) -> None:
        """Signal the child's whole process group, or the child alone when that is ours too; nobody may be in it."""
        if self._pidfd >= 0:
            try:
                flags = SIGNAL_PROCESS_GROUP if self._leads_group else 0
                return signal.pidfd_send_signal(self._pidfd, number, None, flags)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: the kernel is older than 6.9
                    return None
        # An unreaped child pins its pid and thereby the group's. ECHILD here means that it is no longer ours.
        if not self._reaped and self.peek() != _UNKNOWN:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if self._leads_group else os.kill)(self.pid, number)
        return None

    def wait_blocking(self, timeout: float) -> bool:
        """Block until the child has ended, `timeout` seconds at most; return whether it has."""
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        waiting = threading.Thread(target=_wait_forever, args=(self.pid,), daemon=True)
        waiting.start()
        waiting.join(timeout)
        return not waiting.is_alive()

    def close(self) -> None:
        """Reap the child if it has ended and close the descriptor; idempotent."""
        self.reap()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def _query(self, options: int) -> ExitStatus | None:
        if self._reaped:
            return _UNKNOWN
        kind, number = (os.P_PIDFD, self._pidfd) if self._pidfd >= 0 else (os.P_PID, self.pid)
        try:
            result = os.waitid(kind, number, os.WEXITED | options)
        except ChildProcessError:
            self._reaped = True
            return _UNKNOWN
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return ExitStatus(code=result.si_status)
        return ExitStatus(signal=result.si_status)


class ExitWatch(Protocol):
    """What `watch_exit` returns."""

    def close(self) -> None:
        """Stop watching; idempotent."""
        ...


def watch_exit(child: Child, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> ExitWatch:
    """Call `callback` on the loop once, when the child has ended.

    With a pidfd the loop itself notices. Without one a daemon thread blocks in `waitid`, one per child.
    """
    return _PidfdWatch(child, loop, callback) if child.pidfd >= 0 else _ThreadWatch(child, loop, callback)


class _PidfdWatch:
    def __init__(self, child: Child, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._pidfd = child.pidfd
        self._loop = loop
        self._callback = callback
        loop.add_reader(self._pidfd, self._on_readable)

    def _on_readable(self) -> None:
        self.close()
        self._callback()

    def close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(pidfd)


class _ThreadWatch:
    def __init__(self, child: Child, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(child.pid,), name=f"wait-{child.pid}", daemon=True)
        self._thread.start()

    def _run(self, pid: int) -> None:
        _wait_forever(pid)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody is interested any more
            self._loop.call_soon_threadsafe(self._on_exit)

    def _on_exit(self) -> None:
        if not self._closed:
            self._closed = True
            self._callback()

    def close(self) -> None:
        self._closed = True


def _wait_forever(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody else reaped it: it has ended all the same
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _open_pidfd(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        # Too old a kernel, or a sandbox that filters the call: a thread does it instead.
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            return -1
        raise
