"""Peers of other gRPC implementations, each a process: started once for a module, and told by lines what to do."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from certificates import Authority
from grpc_processes import PeerProcess, PeerServer, client_command, serving

from supervisor.spec import Limits
from supervisor.tls import TlsContexts, TlsFiles
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial
from supervisor.transport.tls import load_contexts

GO = Path(__file__).parent.parent / "interop" / "go"

Connect = Callable[..., Any]


@pytest.fixture(scope="session")
def secrets() -> Iterator[Path]:
    """Return a folder with an authority's certificate, ours and the peers'; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="grpc-") as name:
        authority = Authority(Path(name))
        authority.issue("peer")
        authority.issue("ours")
        yield Path(name)


@pytest.fixture(scope="session")
def tls(secrets: Path) -> TlsContexts:
    """Return our side of TLS, on both sides of which a certificate is shown and demanded."""
    files = {"certificate": "ours.pem", "key": "ours.key", "authority": "authority.pem"}
    return load_contexts(TlsFiles(**{name: str(secrets / file) for name, file in files.items()}))


@pytest.fixture(scope="session")
def go_peer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that builds the Go peer, when there is Go and a test asks for it."""
    folder = tmp_path_factory.mktemp("gopeer")

    def build() -> Path:
        program = folder / "grpcpeer"
        if program.exists():
            return program
        if shutil.which("go") is None:
            assert not os.environ.get("SUPERVISOR_REQUIRE_GO"), "SUPERVISOR_REQUIRE_GO is set and there is no Go"
            pytest.skip("there is no Go on this machine")
        command = ["go", "build", "-o", str(program), "./grpcpeer"]
        built = subprocess.run(command, cwd=GO, stderr=subprocess.PIPE, text=True, timeout=900, check=False)
        assert built.returncode == 0, built.stderr
        return program

    return build


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a module that leaves a process, a zombie, a descriptor or a thread."""

    def found() -> set[str]:
        children = {
            f"child {pid}"
            for task in Path("/proc/self/task").iterdir()
            for pid in (task / "children").read_text().split()
        }
        open_ones = {
            f"fd {number}: {os.readlink(number)}" for number in Path("/proc/self/fd").iterdir() if number.exists()
        }
        return (
            children
            | open_ones
            | {f"thread {thread.name}" for thread in threading.enumerate() if "timeout" not in thread.name}
        )

    before = found()
    yield
    gc.collect()
    assert found() <= before


@pytest.fixture(scope="module")
def servers(
    nothing_left_behind: None, secrets: Path, go_peer: Callable[[], Path]
) -> Iterator[Callable[[str], PeerServer]]:
    """Return a function that gives the one server of an implementation."""
    with contextlib.ExitStack() as stack:
        running: dict[str, PeerServer] = {}

        def get(name: str) -> PeerServer:
            if name not in running:
                running[name] = stack.enter_context(serving(name, secrets, go_peer))
            return running[name]

        yield get


@pytest.fixture(scope="module")
def clients(nothing_left_behind: None, go_peer: Callable[[], Path]) -> Iterator[Callable[[str], PeerProcess]]:
    """Return a function that gives the one client of an implementation."""
    with contextlib.ExitStack() as stack:
        running: dict[str, PeerProcess] = {}

        def get(name: str) -> PeerProcess:
            if name not in running:
                running[name] = PeerProcess(client_command(name, go_peer))
                stack.callback(running[name].close)
            return running[name]

        yield get


@pytest_asyncio.fixture
async def connect(servers: Callable[[str], PeerServer], tls: TlsContexts) -> AsyncIterator[Connect]:
    """Return a function that connects our client to a server: `connect("go", "tls")`."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(server: str | PeerServer, transport: str = "unix", limits: Limits | None = None) -> Channel:
            peer = servers(server) if isinstance(server, str) else server
            await peer.started()
            channel = await dial(
                peer.address(transport),
                timeout=10,
                limits=limits,
                tls=tls if transport == "tls" else None,
                engine="lean",
            )
            stack.push_async_callback(channel.wait_closed)
            stack.callback(channel.close)
            return channel

        yield make
