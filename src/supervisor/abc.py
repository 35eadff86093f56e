"""The ports: what the supervisor needs of a runner, a process and an observer, and nothing more.

They are cut by who can honour them: a process that an earlier host started has no pipes left to read, so `Process` and
`LaunchedProcess` are two.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol

from supervisor.address import Address
from supervisor.events import Event
from supervisor.outcome import ExitStatus
from supervisor.records import LogRecord
from supervisor.spec import PluginSpec

__all__ = ["ByteSource", "LaunchedProcess", "Observer", "Process", "Runner"]


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

    def check_address(self, address: Address) -> Address:
        """Return the address to connect to, as seen from the host.

        Raises:
            HandshakeError: the address is not one that this process may announce (outside its runtime directory,
                a symbolic link, somebody else's socket).
        """
        ...

    def new_address(self) -> Address:
        """Return an address that is free, at which this process can reach the host and other users cannot."""
        ...

    def check_peer(self, connection: socket.socket) -> None:
        """Make sure that a connected socket's other end belongs to this process.

        Raises:
            HandshakeError: somebody else listens there.
        """
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


class Observer(Protocol):
    """Who is told. A call that raises loses the observer, never the event."""

    def on_event(self, event: Event) -> None:
        """Take an event; must not block."""
        ...

    def on_record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Take a plugin's log record; must not block."""
        ...
