"""Take over a process that another host started, or nobody did: proven first, signalled last.

A pid in a file may be anybody's by now, and whoever wrote the file may be mistaken. So in this order:

1. a pidfd is opened: from here on it is one process that is looked at, however long it takes;
2. it belongs to our user, and started in this boot at the tick that the token names;
3. the socket at the token's address is held by it or by what it started;
4. it answers a health check there (the host's part);

and only then may it be signalled. What go-plugin knows of a process is its pid and address: then step 2 is left out,
and of what it started only its process group is signalled, since nothing else is known to be its own.
"""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import select
import signal
import socket
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

from supervisor.address import Address, TcpAddress, UnixAddress
from supervisor.errors import ReattachError
from supervisor.outcome import ExitStatus
from supervisor.reattach import ProcessIdentity, ReattachToken
from supervisor.records import LogSource
from supervisor.runners import lineage
from supervisor.runners.caretaker import take_over_pipes
from supervisor.runners.child import SIGNAL_PROCESS_GROUP
from supervisor.runners.host_only import HostOnly
from supervisor.runners.oom import OomCounter
from supervisor.runners.pipes import PipeReader
from supervisor.runners.process_table import boot_id, is_below, read_entry
from supervisor.runners.runtime_directory import is_surviving, remove_directory
from supervisor.runners.socket_check import check_announced, check_peer, owns_port

__all__ = ["AttachedSubprocess", "attach"]

_CLOSE = 0.25
"""Seconds that `close()` may block for a killed process to die, as for one that was launched."""

_LINEAGE = re.compile("[0-9a-f]{32}")
"""What a token in an environment looks like; less would be found in processes that have nothing to do with it."""

_NOWHERE = "/dev/null"
"""In place of a directory of its own: nothing lies in it."""


async def attach(token: ReattachToken, *, make_directory: Callable[[], str]) -> AttachedSubprocess:
    """Prove that the process of a token is the very one, as far as can be told without connecting to it.

    Args:
        token: what is known of it.
        make_directory: makes a private directory for the host's own sockets, when it is first needed.

    Raises:
        ReattachError: it is gone, is another one, or is held by another host. Nothing was signalled.
    """
    process = token.process
    pidfd = _open_pidfd(process.pid)
    try:
        _prove(pidfd, process, token.address)
        directory = _find_directory(token)
        taken = await take_over_pipes(directory) if directory is not None else None
        return AttachedSubprocess(process, pidfd, directory=directory, taken=taken, make_directory=make_directory)
    except BaseException:
        os.close(pidfd)
        raise


def _open_pidfd(pid: int) -> int:
    if not lineage.SUPPORTED or not hasattr(os, "pidfd_open"):
        raise ReattachError("taking over a process needs Linux 5.3", hint="start the plugin anew")
    if is_below(os.getpid(), pid):
        raise _other(f"process {pid} is this host, or has started it")
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise _gone(f"there is no process {pid} any more") from None
    except OSError as error:
        raise ReattachError(f"process {pid} cannot be looked at: {error.strerror}") from error


def _prove(pidfd: int, process: ProcessIdentity, address: Address) -> None:
    """Make sure that the process behind `pidfd` is the one that was meant."""
    entry = read_entry(process.pid)
    # Asked last: while it runs its pid is nobody else's, so what was read is about it.
    if entry is None or entry.ended or _has_ended(pidfd):
        raise _gone(f"process {process.pid} has ended")
    if process.boot_id and process.boot_id != boot_id():
        raise _gone("the machine was started anew since")
    if process.started and process.started != entry.started:
        raise _gone(f"its pid {process.pid} is another process's by now")
    if entry.owner != os.geteuid():
        raise _other(f"process {process.pid} belongs to another user")
    # What is killed with it and removed after it must be its own: it was given both in its environment.
    if process.lineage and not (
        _LINEAGE.fullmatch(process.lineage)
        and lineage.carries(process.pid, f":{process.lineage}\0", f"={process.lineage}\0")
    ):
        raise _other(f"process {process.pid} was not given the token's lineage")
    # Of TCP the kernel does not say who is at the other end.
    if isinstance(address, TcpAddress) and not process.started and not owns_port(process.pid, address):
        raise _other(f"process {process.pid} does not listen at {address}")


def _find_directory(token: ReattachToken) -> str | None:
    """Return the directory that was made for the process, if there is one: it listens there, or was told to."""
    process, address = token.process, token.address
    if not (token.survives_host and is_surviving(process.directory)):
        return None
    listens = isinstance(address, UnixAddress) and os.path.dirname(address.path) == process.directory
    if not (listens or lineage.carries(process.pid, f"PLUGIN_UNIX_SOCKET_DIR={process.directory}\0")):
        raise _other(f"{process.directory!r} is not the directory of process {process.pid}")
    return process.directory


class AttachedSubprocess:
    """A process that another host started. An `AttachedProcess`."""

    def __init__(
        self,
        identity: ProcessIdentity,
        pidfd: int,
        *,
        directory: str | None,
        taken: tuple[HostOnly, list[int]] | None,
        make_directory: Callable[[], str],
    ) -> None:
        self._identity = identity
        self._pidfd = pidfd
        self._directory = directory
        self._own_directory: str | None = None
        self._make_directory = make_directory
        self._owner = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._connection = taken[0] if taken is not None else None
        readers = [PipeReader(pipe, self._loop) for pipe in (taken[1] if taken is not None else ())]
        self._pipes = dict(zip((LogSource.STDOUT, LogSource.STDERR), readers, strict=False))
        self._oom = OomCounter(identity.pid)
        self._status = ExitStatus()
        self._ended = asyncio.Event()
        self._confirmed = self._closed = self._tree_killed = False
        self._loop.add_reader(pidfd, self._on_exit)

    def __repr__(self) -> str:
        return f"<AttachedSubprocess pid {self.pid}, {'confirmed' if self._confirmed else 'not confirmed'}>"

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    @property
    def pid(self) -> int:
        """The process id of the leader."""
        return self._identity.pid

    @property
    def pipes(self) -> Mapping[LogSource, PipeReader]:
        """Its standard output and standard error, if it had a caretaker."""
        return MappingProxyType(self._pipes)

    def identity(self) -> ProcessIdentity:
        """Return what tells it from every other process."""
        return self._identity

    async def wait(self) -> ExitStatus:
        """Wait for the leader to end. The status is unknown: only a parent is told."""
        await self._ended.wait()
        return self._status

    def confirm(self) -> None:
        """Take it over for good: it has answered."""
        self._confirmed = True

    def send_signal(self, number: int) -> None:
        """Send a signal to it, and to its group if it leads one; does nothing before it is confirmed or after its end."""
        if not self._confirmed or self._closed or os.getpid() != self._owner:
            return
        entry = read_entry(self.pid)
        leads = entry is not None and entry.group == self.pid
        try:
            signal.pidfd_send_signal(self._pidfd, number, None, SIGNAL_PROCESS_GROUP if leads else 0)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel is older than 6.9
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._pidfd, number)

    def kill_tree(self) -> None:
        """Kill the leader, its group and whatever carries its token, once it is confirmed. Synchronous and idempotent."""
        if not self._confirmed or self._closed or self._tree_killed or os.getpid() != self._owner:
            return
        # The sweep first: it finds the sessions of what it kills, which nothing else names once they are gone.
        swept = not self._identity.lineage or lineage.sweep(self._identity.lineage)
        self.send_signal(signal.SIGKILL)
        self._tree_killed = swept

    def oom_killed(self) -> bool:
        """Whether the kernel's out-of-memory killer was at work in the memory cgroup since it was taken over."""
        return self._oom.increased()

    def check_address(self, address: Address) -> Address:
        """Return the address to connect to, if this process may announce it.

        Raises:
            HandshakeError: it may not.
        """
        return check_announced(address, directory=self._directory or _NOWHERE, in_tree=self._in_tree)

    def new_address(self) -> Address:
        """Return the address of a socket in a directory that is ours and the plugin's."""
        directory = self._directory or self._own_directory
        if directory is None:
            directory = self._own_directory = self._make_directory()
        return UnixAddress(f"{directory}/host{secrets.token_hex(4)}")

    def host_to_plugin(self, address: Address) -> Address:
        """Return the address as it is: it is the same machine."""
        return address

    def check_peer(self, connected: socket.socket) -> None:
        """Make sure that the other end of a connected unix socket is of this tree. Other families pass.

        Raises:
            HandshakeError: it is not.
        """
        check_peer(connected, in_tree=self._in_tree)

    def detach(self) -> None:
        """Let go of it: it lives on. Idempotent."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._pidfd)
        for pipe in self._pipes.values():
            pipe.close()
        if self._connection is not None:
            self._connection.close()
        if self._own_directory is not None:
            remove_directory(self._own_directory)
        os.close(self._pidfd)

    def close(self) -> None:
        """Kill what still runs and remove its directory, if it is confirmed; then let go. Synchronous and idempotent."""
        if self._closed or os.getpid() != self._owner:
            return
        if self._confirmed:
            self.kill_tree()
            _has_ended(self._pidfd, within=_CLOSE)
            if self._directory is not None:
                remove_directory(self._directory)
        self.detach()

    def _in_tree(self, pid: int) -> bool:
        """Whether a process is the leader's, or carries the token that the leader was given."""
        if pid <= 0:
            return False
        with contextlib.suppress(OSError):
            if os.getsid(pid) == self.pid:
                return True
        return bool(self._identity.lineage and lineage.carries(pid, self._identity.lineage)) or is_below(pid, self.pid)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()


def _has_ended(pidfd: int, *, within: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within * 1000))


def _gone(message: str) -> ReattachError:
    return ReattachError(message, gone=True, hint="start the plugin anew, there is nothing to take over")


def _other(message: str) -> ReattachError:
    return ReattachError(message, hint="the token is not of this plugin, or not of this machine")
