"""The host's side of a caretaker: start one, connect to one that is there, leave the plugin to it."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Final, Self

from supervisor.errors import ReattachError
from supervisor.runners.child import Child, watch_exit
from supervisor.runners.guard import Guard
from supervisor.runners.host_only import HostOnly
from supervisor.runners.launch_errors import refusal
from supervisor.runners.launcher import Launched

__all__ = ["Caretaker", "take_over_pipes"]

_SCRIPT = "supervisor.runners.caretaker_process"
_SOCKET = "caretaker"
_PATIENCE = 5.0
_REAP = 1.0
_PIPES: Final = 2


class Caretaker:
    """The process that looks after one plugin while it has no host."""

    __slots__ = ("_child", "_held")

    def __init__(self, child: Child, *held: HostOnly) -> None:
        self._child = child
        self._held = held

    @classmethod
    def start(cls, launched: Launched, directory: str, lock: HostOnly, environment: Mapping[str, str]) -> Self:
        """Start the caretaker of a plugin that was just launched, in a session of its own.

        Args:
            launched: the plugin and our ends of its pipes.
            directory: its private directory.
            lock: the lock of that; the caretaker holds it too from now on, and ours is its to close.
            environment: what the caretaker is found by.

        Raises:
            LaunchError: this platform has not what it needs.
            OSError: no descriptor or no process is to be had.
        """
        spec = find_spec(_SCRIPT)
        if not Guard.possible() or launched.child.pidfd < 0 or spec is None or spec.origin is None:
            raise refusal(0, "survive_host needs Linux 5.3 and a Python that can be started", hint="leave it out")
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(theirs.close)
            connection = HostOnly(ours.detach())
            failed = undo.enter_context(ExitStack())
            failed.callback(connection.close)
            listener = undo.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(os.path.join(directory, _SOCKET))
            os.chmod(listener.getsockname(), 0o600)
            listener.listen()
            given = (launched.child.pidfd, listener.fileno(), launched.stdout, launched.stderr, lock.fileno())
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
                [sys.executable, "-I", "-S", spec.origin, directory, *map(str, given)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
                pass_fds=given,
                start_new_session=True,
            )
            caretaker = cls(Child.adopt(process), connection, lock)
            failed.pop_all()
            return caretaker

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave the plugin to it. Whenever it ends, it is reaped, if the loop still runs then."""
        self._release()
        watch_exit(self._child, loop, self._child.close)

    def close(self) -> None:
        """End it and reap it: the plugin has ended, and its directory is removed by the host."""
        self._child.signal_group(9)
        self._child.wait_blocking(_REAP)
        self._child.close()
        self._release()

    def _release(self) -> None:
        for held in self._held:
            held.close()


async def take_over_pipes(directory: str) -> tuple[HostOnly, list[int]] | None:
    """Connect to the caretaker in `directory`; return the connection, which holds our place, and stdout and stderr.

    None when there is no caretaker (any more).

    Raises:
        ReattachError: another host holds the plugin.
    """
    with ExitStack() as undo:
        connection = socket.socket(socket.AF_UNIX)
        undo.callback(connection.close)
        connection.setblocking(False)  # noqa: FBT003 - the stdlib takes no keyword
        try:
            connection.connect(os.path.join(directory, _SOCKET))
            async with asyncio.timeout(_PATIENCE):
                answer, pipes = await _receive(connection)
        except (TimeoutError, BlockingIOError) as error:
            raise ReattachError(
                "its caretaker does not answer", hint="is it stopped, or its machine overloaded?"
            ) from error
        except OSError:
            return None
        if answer == b"taken":
            raise ReattachError("another host has it", hint="stop that host, or detach the plugin there")
        if len(pipes) != _PIPES:
            for pipe in pipes:
                os.close(pipe)
            return None
        undo.pop_all()
        return HostOnly(connection.detach()), pipes


async def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
    answer, pipes, *_ = socket.recv_fds(connection, 64, _PIPES, socket.MSG_CMSG_CLOEXEC)
    return answer, pipes


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
