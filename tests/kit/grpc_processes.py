"""Clients and servers of other gRPC implementations as processes, which read lines and write lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from supervisor.address import Address, TcpAddress, UnixAddress

__all__ = ["CLIENTS", "SERVERS", "SIZES", "PeerProcess", "PeerServer", "client_command", "serving"]

HERE = Path(__file__).parent.parent / "grpc_interop"
PYTHONPATH = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
PATIENCE = 30.0
"""Seconds for an answer of a peer's; reached only by a test that fails."""

SERVERS = CLIENTS = ("grpcio", "grpcio-aio", "grpclib", "go")
_FRAME = 16 << 10
SIZES = (
    *(("unix", size) for size in (0, 1, 100, _FRAME - 1, _FRAME, _FRAME + 1, 64 << 10, 1 << 20)),
    *(("tcp", size) for size in (0, 100, 1 << 20)),
    *(("tls", size) for size in (0, 1, 100, _FRAME, 1 << 20)),
)
"""Messages that are exchanged over each transport; larger ones on a few combinations only."""


def client_command(name: str, program: Callable[[], Path]) -> list[str]:
    """Return how the client of an implementation is started; `program` gives the Go peer's."""
    python = [sys.executable, str(HERE / "calls_by_grpcio.py")]
    match name:
        case "grpcio":
            return [*python, "sync"]
        case "grpcio-aio":
            return [*python, "aio"]
        case "grpclib":
            return [sys.executable, str(HERE / "calls_by_grpclib.py")]
        case _:
            return [str(program()), "call"]


def server_command(name: str, folder: Path, program: Callable[[], Path]) -> list[str]:
    """Return how the server of an implementation is started."""
    python = [sys.executable, str(HERE / "served_by_grpcio.py")]
    match name:
        case "grpcio":
            return [*python, "sync", str(folder)]
        case "grpcio-aio":
            return [*python, "aio", str(folder)]
        case "grpclib":
            return [sys.executable, str(HERE / "served_by_grpclib.py"), str(folder)]
        case _:
            return [str(program()), "serve", str(folder)]


class PeerProcess:
    """A peer: it reads lines and writes lines of JSON."""

    def __init__(self, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "GRPC_VERBOSITY": "ERROR"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
        )
        self._rest = b""

    def say(self, line: str) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def hear(self) -> Any:
        """Return what it says next."""
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while b"\n" not in self._rest:
                readable = loop.create_future()
                loop.add_reader(number, _done, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(number)
                data = os.read(number, 1 << 16)
                assert data, f"the peer has ended: {self._process.wait()}"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """End it, politely and then not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class PeerServer(PeerProcess):
    """A server of another implementation's.

    Attributes:
        name: whose it is.
        folder: where its sockets and certificates are.
        places: its addresses, by transport; `few` takes ten calls at once and 8 KiB of headers, where it can.
    """

    def __init__(self, name: str, folder: Path, program: Callable[[], Path]) -> None:
        self.name = name
        self.folder = folder
        super().__init__(server_command(name, folder, program))
        self.places: dict[str, str] = {}

    async def started(self) -> PeerServer:
        """Wait until it listens."""
        if not self.places:
            self.places = await self.hear()
        return self

    def address(self, transport: str) -> Address:
        """Return where it listens."""
        place = self.places[transport]
        return UnixAddress(place) if place.startswith("/") else TcpAddress("127.0.0.1", int(place))


@contextlib.contextmanager
def serving(name: str, secrets: Path, program: Callable[[], Path]) -> Iterator[PeerServer]:
    """Run a server of another implementation's."""
    with tempfile.TemporaryDirectory(prefix="grpc-") as folder:
        for file in secrets.iterdir():
            shutil.copy(file, folder)
        server = PeerServer(name, Path(folder), program)
        try:
            yield server
        finally:
            server.close()
