"""Find and kill every process of a lineage, wherever it has moved to.

A host puts a random token into the environment of what it starts, and children inherit it. A process that has left its
process group and its session, and whose parents are gone, still shows the token in `/proc/<pid>/environ`. A process that
was started with an emptied environment is only found through its session. Not found at all is a program that forks and
ends over and over, faster than `/proc` can be read: that takes a control group.

The guard process loads this file by path, in an interpreter that has nothing but the standard library: import nothing of
this package here.
"""

# Plain strings: pathlib would slow the guard's start.

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator

__all__ = ["SUPPORTED", "VARIABLE", "carries", "sweep"]

VARIABLE = "SUPERVISOR_LINEAGE"
"""The environment variable: tokens joined by colons, outermost host first."""

SUPPORTED = os.path.isdir("/proc/self/task")
"""Whether there is a Linux `/proc`. Elsewhere nothing is found and nothing is killed."""

_CHUNK = 1 << 17
_QUIET_PASSES = 2
_AWAITED = 16  # A fork bomb must not use up our descriptors: wait for the death of the first few only.


def sweep(token: str, *, session: int = 0, spare: Collection[int] = (), timeout: float = 0.1) -> bool:
    """Kill all processes that carry `token`, and the sessions that they live in, until two passes find none.

    Two passes, because a process shows an empty environment for an instant while it executes a program. Every kill goes
    through a pidfd that was opened before the last look at the process, so a recycled pid is never hit.

    Blocks for a few milliseconds as a rule, for `timeout` seconds at most when something dies slowly.

    Args:
        token: what to look for.
        session: a session to kill even when nobody in it carries the token; its leader must be unreaped.
        spare: sessions never to be killed as a whole (the host's own).
        timeout: seconds.

    Returns:
        Whether nothing was left. False too when `/proc` could not be read, for lack of descriptors say.
    """
    deadline = time.monotonic() + timeout
    quiet = 0
    while quiet < _QUIET_PASSES:
        try:
            found = tuple(_find(token.encode(), session, frozenset(spare) | {os.getsid(0), 0}))
            _kill(found, deadline)
        except OSError:
            return False
        quiet = 0 if found else quiet + 1
        if found and time.monotonic() >= deadline:
            return False
    return True


def carries(pid: int, *texts: str) -> bool:
    """Whether the process shows one of the texts in its environment; False when it cannot be read."""
    environment = _environment(pid)
    return any(text.encode() in environment for text in texts)


def _find(token: bytes, session: int, spare: frozenset[int]) -> Iterator[_Found]:
    """Yield the living processes that carry the token or share a session with one that does."""
    if not SUPPORTED:
        return
    own = os.getpid()
    everyone = [pid for name in os.listdir("/proc") if name.isdigit() and (pid := int(name)) != own]
    carriers = {pid for pid in everyone if token in _environment(pid)}
    sessions = ({_session(pid) for pid in carriers} | {session}) - spare
    for pid in everyone:
        if (pid in carriers or _session(pid) in sessions) and _alive(pid):
            yield pid, token, sessions


def _kill(found: Collection[_Found], deadline: float) -> None:
    """Kill what was found and wait, up to `deadline`, until the first few are dead."""
    awaited: list[int] = []
    try:
        for pid, token, sessions in found:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            awaited.append(pidfd)
            # Only now is it certain that the look and the kill concern the same process.
            if token in _environment(pid) or _session(pid) in sessions:
                _send_kill(pidfd)
            if len(awaited) > _AWAITED:
                os.close(awaited.pop())
        for pidfd in awaited:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        for pidfd in awaited:
            os.close(pidfd)


def _send_kill(pidfd: int) -> None:
    # It may be dead already, or run as another user by now: then there is nothing that we could do.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _environment(pid: int) -> bytes:
    """The environment the process was started with; empty for zombies, kernel threads and other users' processes."""
    try:
        descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    text = b""
    try:
        with contextlib.suppress(OSError):  # it ended, or executes another program, while we read
            while chunk := os.read(descriptor, _CHUNK):
                text += chunk
    finally:
        os.close(descriptor)
    return text


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _alive(pid: int) -> bool:
    """Whether it is more than a zombie, which nobody can kill."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


_Found = tuple[int, bytes, "set[int] | frozenset[int]"]
