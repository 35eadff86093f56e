"""Runners whose plugins see other addresses than the host does, as in a container: made of subprocesses."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from supervisor.abc import LaunchedProcess
from supervisor.address import Address, TcpAddress, UnixAddress
from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner
from supervisor.spec import PluginSpec

__all__ = ["ForwardingRunner", "MountingRunner"]

_MOUNT = (
    'mount --bind "$PLUGIN_UNIX_SOCKET_DIR" "$0" && export PLUGIN_UNIX_SOCKET_DIR="$0" && mount -t tmpfs none "$1" && '
    'shift && exec "$@"'
)


class _Translated:
    """A process with addresses of its own; what is not defined here is the real process's."""

    def __init__(self, process: SubprocessProcess) -> None:
        self.process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)


class MountingRunner:
    """Mounts each instance's directory at `inside` for the plugin alone, and hides where it really is. Takes root.

    Attributes:
        translated: the addresses that were translated, as (direction, from, to).
    """

    def __init__(self, inside: Path) -> None:
        self.translated: list[tuple[str, str, str]] = []
        self._inside = str(inside)
        self._runner = SubprocessRunner(guard=False)

    async def launch(self, spec: PluginSpec, *, generation: int, variables: Mapping[str, str]) -> LaunchedProcess:
        """Start an instance in a mount namespace of its own."""
        hidden = os.environ["XDG_RUNTIME_DIR"]
        command = ("unshare", "--mount", "sh", "-c", _MOUNT, self._inside, hidden, *spec.command)
        process = await self._runner.launch(replace(spec, command=command), generation=generation, variables=variables)
        return cast("LaunchedProcess", _Mounted(process, self._inside, self.translated))

    def close(self) -> None:
        """End what runs."""
        self._runner.close()


class _Mounted(_Translated):
    def __init__(self, process: SubprocessProcess, inside: str, translated: list[tuple[str, str, str]]) -> None:
        super().__init__(process)
        self._inside = inside
        self._translated = translated

    def check_address(self, address: Address) -> Address:
        return self.process.check_address(self._move(address, self._inside, self.process.directory, "to host"))

    def host_to_plugin(self, address: Address) -> Address:
        return self._move(self.process.host_to_plugin(address), self.process.directory, self._inside, "to plugin")

    def _move(self, address: Address, old: str, new: str, direction: str) -> Address:
        assert isinstance(address, UnixAddress)
        folder, name = os.path.split(address.path)
        assert folder == old
        self._translated.append((direction, address.path, f"{new}/{name}"))
        return UnixAddress(f"{new}/{name}")


class ForwardingRunner:
    """Forwards a TCP port of its own to each port on either side, which sees that one only.

    Attributes:
        connections: how many were forwarded, by direction.
    """

    def __init__(self) -> None:
        self.connections = {"to plugin": 0, "to host": 0}
        self._runner = SubprocessRunner(guard=False)
        self._tasks: list[asyncio.Task[None]] = []

    async def launch(self, spec: PluginSpec, *, generation: int, variables: Mapping[str, str]) -> LaunchedProcess:
        """Start an instance."""
        process = await self._runner.launch(spec, generation=generation, variables=variables)
        return cast("LaunchedProcess", _Forwarded(process, self._forward))

    def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        self._runner.close()

    def _forward(self, address: Address, direction: str) -> Address:
        """Return the address of a new port that leads to another."""
        assert isinstance(address, TcpAddress)
        listening = socket.create_server(("127.0.0.1", 0))
        self._tasks.append(asyncio.create_task(self._accept(listening, address, direction)))
        return TcpAddress("127.0.0.1", listening.getsockname()[1])

    async def _accept(self, listening: socket.socket, target: TcpAddress, direction: str) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections[direction] += 1
            other_reader, other_writer = await asyncio.open_connection(target.host, target.port)
            await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))

        async with await asyncio.start_server(carry, sock=listening) as server:
            await server.serve_forever()


class _Forwarded(_Translated):
    def __init__(self, process: SubprocessProcess, forward: Callable[[Address, str], Address]) -> None:
        super().__init__(process)
        self._forward = forward

    def check_address(self, address: Address) -> Address:
        return self._forward(self.process.check_address(address), "to plugin")

    def new_address(self) -> Address:
        return TcpAddress("127.0.0.1", 0)

    def host_to_plugin(self, address: Address) -> Address:
        return self._forward(address, "to host")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
