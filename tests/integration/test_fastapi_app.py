"""`examples/fastapi_app` under a real server: it serves, survives its plugin, and leaves nothing behind when it ends."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

APP = Path(__file__).parents[2] / "examples" / "fastapi_app"


class Server:
    """uvicorn in a process of its own, on a socket that is listening before it starts: requests wait, nobody polls."""

    def __init__(self, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(listener.fileno()), "--app-dir", str(APP)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.stderr = self.process.stderr

    def until_said(self, text: str) -> None:
        """Wait for a line with `text` on the server's stderr."""
        said = []
        for line in self.stderr:
            said.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} was never said: {said}")

    def watch_children(self) -> list[int]:
        """Return a pidfd for each process that the server has started: the plugin and the guard."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [os.pidfd_open(int(pid)) for pid in children]

    def close(self) -> None:
        """Kill what is left of it."""
        self.client.close()
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.fixture
def server(clean: None) -> Iterator[Server]:
    """Run the example."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener)
    yield server
    server.close()


def ended(pidfds: list[int], *, within: float) -> bool:
    """Whether all of the processes end within so many seconds; closes the descriptors."""
    until, poll = time.monotonic() + within, select.poll()
    left = len(pidfds)
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    while left and (remaining := until - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(remaining * 1000):
            poll.unregister(pidfd)
            left -= 1
    for pidfd in pidfds:
        os.close(pidfd)
    return not left


@pytest.fixture
def key() -> Iterator[str]:
    """Return a key of this run's own; the example's store is a folder that all runs share."""
    key = f"test-{os.getpid()}"
    yield key
    (APP.parent / "kv" / "data" / key.encode().hex()).unlink(missing_ok=True)


def test_value_outlives_the_plugin(server: Server, key: str) -> None:
    """PUT and GET go through the plugin; after the kill route it is another process, and the value is there again."""
    path = f"/kv/{key}"
    assert server.client.get("/livez").json() == {"status": "ok"}
    assert server.client.put(path, content=b"\0 any bytes").status_code == 204
    assert server.client.get(path).content == b"\0 any bytes"
    assert server.client.get("/kv/nothing-here").status_code == 404
    ready = server.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"store": "ready"})
    pids = []
    for generation in (1, 2, 3):
        killed = server.client.post("/plugins/store/kill")
        assert killed.status_code == 202
        assert f"generation {generation}" in killed.text
        pids += re.findall(r"pid (\d+)", killed.text)
        assert server.client.get(path).content == b"\0 any bytes"
    assert len(set(pids)) == 3
    assert server.client.get("/livez").status_code == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_row_37_one_signal_stops_in_order(server: Server, number: int, code: int) -> None:
    """One SIGTERM or SIGINT: uvicorn ends as it does without plugins, and the plugin with it, through its own shutdown."""
    assert server.client.get("/kv/nothing-here").status_code == 404
    children = server.watch_children()
    assert children
    server.process.send_signal(number)
    server.until_said("Application shutdown complete")
    # uvicorn raises the signal again when it is done: SIGTERM then ends it, and a KeyboardInterrupt it takes for success.
    assert server.process.wait(timeout=20) == code
    assert ended(children, within=0.5)


def test_row_37_second_signal_skips_the_lifespan_and_leaves_no_orphan(server: Server) -> None:
    """A second SIGINT, with a request under way, makes uvicorn skip the lifespan's end: the plugin is gone within 1 s."""
    assert server.client.get("/kv/nothing-here").status_code == 404
    children = server.watch_children()
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        busy.sendall(b"PUT /kv/half HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert busy.recv(65536).startswith(b"HTTP/1.1 100")
        server.process.send_signal(signal.SIGINT)
        server.until_said("Waiting for connections to close")
        server.process.send_signal(signal.SIGINT)
    # Hung up only now: from Python 3.12 on asyncio's server waits for its connections whatever uvicorn wants.
    assert ended(children, within=1.0)
    server.process.wait(timeout=20)
    assert "Application shutdown complete" not in server.stderr.read()
