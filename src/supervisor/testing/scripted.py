"""Plugins without processes: a runner whose instances follow a script, on the caller's own loop.

For tests of what a supervisor or an application does when a plugin starts, prints, dies or does not, in virtual time
if need be:

    async def crash(process: ScriptedProcess) -> int:
        return 1

    async with Supervisor([spec], runner=lambda: ScriptedRunner(crash)) as supervisor: ...
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import anyio

from supervisor.address import Address, MemoryAddress, UnixAddress
from supervisor.handshake import format_handshake
from supervisor.outcome import ExitStatus
from supervisor.services.controller import ControllerService
from supervisor.services.health import HealthService
from supervisor.spec import PluginSpec
from supervisor.terms import Limits
from supervisor.transport.server import Server

__all__ = ["Script", "ScriptedProcess", "ScriptedRunner"]


class _Pipe:
    """A pipe whose writing end is a method call."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._closed = False

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._chunks:
                return self._chunks.popleft()
            if self._ended:
                raise anyio.EndOfStream
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class ScriptedProcess:
    """One instance as its script sees it: it can print, and what it returns is its exit code.

    SIGTERM and SIGABRT end the script unless `ignores` holds them; SIGKILL always does.

    Attributes:
        spec_name: which plugin it is.
        generation: which life it is.
        variables: what the protocol put into its environment.
        ignores: signals that do nothing.
        received: every signal sent to it, in order.
    """

    def __init__(self, pid: int, spec: PluginSpec, generation: int, variables: Mapping[str, str]) -> None:
        self.pid = pid
        self.spec_name = spec.name
        self.generation = generation
        self.variables = MappingProxyType(dict(variables))
        self.ignores: set[int] = set()
        self.received: list[int] = []
        self.address: Address | None = None
        self.stdout = _Pipe()
        self.stderr = _Pipe()
        self._ended = anyio.Event()
        self._status = ExitStatus()
        self._task: asyncio.Task[None] | None = None

    def print_line(self, line: str) -> None:
        """Print a line on stdout; the first one is the handshake."""
        self.stdout.write(f"{line}\n".encode())

    def log_line(self, line: str) -> None:
        """Print a line on stderr."""
        self.stderr.write(f"{line}\n".encode())

    async def serve(self, *services: Any, health: HealthService | None = None) -> int:
        """Serve in memory until asked to shut down or cancelled, with health and shutdown as a real plugin has them.

        Returns:
            0, for the script to return in turn.
        """
        shutdown = anyio.Event()
        self.address = MemoryAddress(f"scripted plugin {id(self)}")
        server = Server([*services, health or HealthService(), ControllerService(shutdown.set)], limits=Limits())
        await server.start(self.address)
        try:
            self.stdout.write(format_handshake(version=1, address=UnixAddress("/scripted")).encode())
            await shutdown.wait()
            await server.stop(1.0)
        finally:
            server.close()
        return 0

    def begin(self, script: Script) -> None:
        """Follow `script` from the next turn of the loop on."""
        self._task = asyncio.create_task(self._follow(script), name=f"scripted process {self.pid}")

    async def _follow(self, script: Script) -> None:
        try:
            code = await script(self)
        except asyncio.CancelledError:
            self._end(ExitStatus(signal=next(iter(reversed(self.received)), signal.SIGKILL)))
        except Exception as error:  # noqa: BLE001  # what an interpreter does: print it and exit with 1
            self.log_line(f"{type(error).__name__}: {error}")
            self._end(ExitStatus(code=1))
        else:
            self._end(ExitStatus(code=code))

    def _end(self, status: ExitStatus) -> None:
        if not self._ended.is_set():
            self._status = status
            self.stdout.end()
            self.stderr.end()
            self._ended.set()

    async def wait(self) -> ExitStatus:
        """Wait for the script's end."""
        await self._ended.wait()
        return self._status

    def send_signal(self, number: int) -> None:
        """End the script, unless it ignores the signal."""
        self.received.append(number)
        if number not in self.ignores and self._task is not None:
            self._task.cancel()

    def kill_tree(self) -> None:
        """End the script, whatever it ignores."""
        if not self._ended.is_set() and self._task is not None:
            self.received.append(signal.SIGKILL)
            self._task.cancel()

    def oom_killed(self) -> bool:
        """Return False: there is no kernel."""
        return False

    def check_address(self, address: Address) -> Address:
        """Return where the script really listens."""
        return self.address or address

    def new_address(self) -> Address:
        """Return an address in memory."""
        return MemoryAddress(f"host of scripted plugin {secrets.token_hex(8)}")

    def host_to_plugin(self, address: Address) -> Address:
        """Return the address: both sides are in this process."""
        return address

    def check_peer(self, connection: socket.socket) -> None:
        """Accept any peer: it is this process."""

    def close(self) -> None:
        """End the script and its pipes."""
        self.kill_tree()
        self.stdout.close()
        self.stderr.close()


Script = Callable[[ScriptedProcess], Awaitable[int]]
"""What an instance does; its result is the exit code, an exception is exit code 1."""


class ScriptedRunner:
    """A runner whose instances follow `script`; `launched` keeps them all."""

    def __init__(self, script: Script) -> None:
        self.launched: list[ScriptedProcess] = []
        self._script = script

    async def launch(self, spec: PluginSpec, *, generation: int, variables: Mapping[str, str]) -> ScriptedProcess:
        """Start an instance."""
        process = ScriptedProcess(len(self.launched) + 1, spec, generation, variables)
        self.launched.append(process)
        process.begin(self._script)
        return process

    def close(self) -> None:
        """End every instance."""
        for process in self.launched:
            process.close()
