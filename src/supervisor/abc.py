"""The ports: what the supervisor needs of a runner, a process and an observer, and nothing more.

They are cut by who can honour them: a process that an earlier host started may have no pipes left to read, so
`LaunchedProcess` and `AttachedProcess` are two, and a runner need not be able to attach to anything.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from supervisor.address import Address
from supervisor.events import Event
from supervisor.outcome import ExitStatus
from supervisor.reattach import ProcessIdentity, ReattachToken
from supervisor.records import LogRecord, LogSource
from supervisor.spec import PluginSpec

__all__ = [
    "AttachedProcess",
    "AttachingRunner",
    "ByteSource",
    "LaunchedProcess",
    "Observer",
    "Process",
    "Runner",
    "SurvivingProcess",
    "Writer",
]


class ByteSource(Protocol):
    """A pipe's reading end. One reader at a time."""

    async def receive(self) -> bytes:
        """Return the next chunk, of at most 64 KiB.

        Raises:
            anyio.EndOfStream: every writer has closed its end.
            anyio.ClosedResourceError: `close()` was called, also while waiting.
        """
        ...

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        ...


class Process(Protocol):
    """A process and all that it started."""

    @property
    def pid(self) -> int:
        """The process id of the leader."""
        ...

    async def wait(self) -> ExitStatus:
        """Wait for the leader to end; never for its pipes. Safe to cancel, to repeat and to share."""
        ...

    def send_signal(self, signal: int) -> None:
        """Send a signal to the whole group; does nothing when the leader has ended."""
        ...

    def kill_tree(self) -> None:
        """Kill the leader, its group and what escaped from it. Synchronous, so that it works under any cancellation.

        Idempotent, and also right after the leader has ended: its children may have survived it.
        """
        ...

    def oom_killed(self) -> bool:
        """Whether the kernel's out-of-memory killer has taken a process of the plugin's memory cgroup since launch."""
        ...

    def check_address(self, address: Address) -> Address:
        """Return the address to connect to, as seen from the host: go-plugin's PluginToHost, and what may be said of it.

        Asked for the address in the handshake, and for those of services that the plugin offers.

        Raises:
            HandshakeError: the address is not one that this process may announce (outside its runtime directory,
                a symbolic link, somebody else's socket).
        """
        ...

    def new_address(self) -> Address:
        """Return an address that is free, where a service of the host's can listen and other users cannot connect."""
        ...

    def host_to_plugin(self, address: Address) -> Address:
        """Return an address where the host listens by now, as seen from this process: go-plugin's HostToPlugin.

        Raises:
            OSError: this process cannot be let in there.
        """
        ...

    def check_peer(self, connection: socket.socket) -> None:
        """Make sure that a connected socket's other end belongs to this process.

        Raises:
            HandshakeError: somebody else listens there.
        """
        ...

    def close(self) -> None:
        """Release descriptors and the runtime directory; kills what still runs. Synchronous and idempotent."""
        ...


class LaunchedProcess(Process, Protocol):
    """A process that this host started: it has pipes."""

    @property
    def stdout(self) -> ByteSource:
        """Its standard output, where the handshake arrives."""
        ...

    @property
    def stderr(self) -> ByteSource:
        """Its standard error."""
        ...


@runtime_checkable
class SurvivingProcess(Process, Protocol):
    """A process that another host can take over."""

    def identity(self) -> ProcessIdentity:
        """Return what tells it from every other process."""
        ...

    def detach(self) -> None:
        """Let go of it: from now on nothing here signals it, waits for it or removes its directory. Idempotent."""
        ...


class AttachedProcess(SurvivingProcess, Protocol):
    """A process that this host did not start. Its exit status may be unknown.

    Until it is confirmed, signals and kills do nothing, and `close` lets go of it as `detach` does.
    """

    @property
    def pipes(self) -> Mapping[LogSource, ByteSource]:
        """What is left of its standard output and standard error; empty when nobody has kept them."""
        ...

    def confirm(self) -> None:
        """Take it over for good: it is the one that was meant, and from now on this host's to end."""
        ...


class Runner(Protocol):
    """Where and how an instance runs."""

    async def launch(self, spec: PluginSpec, *, generation: int, variables: Mapping[str, str]) -> LaunchedProcess:
        """Start one instance.

        Args:
            spec: what to run.
            generation: which life it is.
            variables: what the protocol adds to its environment (cookie, versions); the runner adds what it owns,
                such as the socket directory.

        Raises:
            LaunchError: the program could not be started. Nothing is left behind.
        """
        ...

    def close(self) -> None:
        """Release what the runner holds for all instances; idempotent."""
        ...


@runtime_checkable
class AttachingRunner(Runner, Protocol):
    """A runner that can take over what it did not start."""

    async def attach(self, spec: PluginSpec, token: ReattachToken) -> AttachedProcess:
        """Find the process that a token names, and prove that it is the very one. Signals nothing.

        Raises:
            ReattachError: it is gone, is another one, or is not to be had.
        """
        ...


class Observer(Protocol):
    """Who is told. A call that raises loses the observer, never the event."""

    def on_event(self, event: Event) -> None:
        """Take an event; must not block."""
        ...

    def on_record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Take a plugin's log record; must not block."""
        ...


class Writer(Protocol):
    """Who takes what a plugin prints: an open binary file, or anything of this shape."""

    def write(self, data: bytes, /) -> object:
        """Take `data`; may block. What an `int` leaves over is written again. `flush()` is called after it, if there is one."""
        ...
