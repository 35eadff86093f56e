"""A host that ends without a word, and a plugin that does not end when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_host import PATIENCE, RawHost

from supervisor.services import controller
from supervisor.transport.tls import make_identity

Start = Callable[..., RawHost]

HOST = """
import subprocess, sys
plugin = subprocess.Popen([sys.executable, sys.argv[1]])
print(plugin.pid, flush=True)
sys.stdin.read()
"""
"""A host in between, as go-plugin's are: it starts a plugin, and can be killed."""

PLUGIN = """
import os, sys
from supervisor.sdk import serve
class Nothing:
    def __mapping__(self): return {"/a.B/C": None}
serve(Nothing(), **eval(sys.argv[1] if len(sys.argv) > 1 else os.environ["OPTIONS"]), reflection=False)
"""


def start_under_a_host(tmp_path: Path, options: str, **variables: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """Return a host that is to be killed, a pidfd of its plugin, and the pid; the plugin has said its handshake."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "s").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SUPERVISOR_PLUGIN": "3f0c7a1e-6d58-4b5f-9a53-0a3f7f6a2d11",
        "PLUGIN_PROTOCOL_VERSIONS": "1",
        "PLUGIN_UNIX_SOCKET_DIR": str(tmp_path / "s"),
        "OPTIONS": options,
        **variables,
    }
    host = subprocess.Popen(
        [sys.executable, str(tmp_path / "host.py"), str(tmp_path / "plugin.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    descriptor = os.pidfd_open(pid)
    assert host.stdout.readline().startswith(b"1|1|unix|")
    return host, descriptor, pid


async def ended(descriptor: int) -> None:
    """Wait until the process of a pidfd has ended; bounded."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)


def end_all(host: subprocess.Popen[bytes], descriptor: int) -> None:
    """Leave nothing of a test that failed."""
    host.kill()
    host.communicate()
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


@pytest.mark.parametrize("why", ["told to", "AutoMTLS", "multiplexed"])
async def test_it_ends_with_its_host(tmp_path: Path, nothing_left: None, no_orphan_left: None, why: str) -> None:
    """Killed by SIGKILL, a host cannot say goodbye: its plugin ends in order all the same, and its socket is gone.

    A plugin in Go is orphaned and runs for ever.
    """
    variables = {
        "told to": {},
        "AutoMTLS": {"PLUGIN_CLIENT_CERT": make_identity().pem},
        "multiplexed": {"PLUGIN_MULTIPLEX_GRPC": "true"},
    }[why]
    host, descriptor, _ = start_under_a_host(
        tmp_path, "dict(end_with_host=True)" if why == "told to" else "{}", **variables
    )
    try:
        assert os.listdir(tmp_path / "s")
        host.kill()
        await ended(descriptor)
        assert os.listdir(tmp_path / "s") == []
    finally:
        end_all(host, descriptor)


@pytest.mark.parametrize("options", ["{}", "dict(end_with_host=False)"])
async def test_it_lives_on_for_a_host_that_comes_back(
    tmp_path: Path, nothing_left: None, no_orphan_left: None, options: str
) -> None:
    """As go-plugin's reattach needs it: without AutoMTLS and unless told otherwise, the end of the host means nothing."""
    variables = {"PLUGIN_CLIENT_CERT": make_identity().pem} if options != "{}" else {}
    host, descriptor, pid = start_under_a_host(tmp_path, options, **variables)
    try:
        host.kill()
        host.wait()
        assert len(os.listdir(f"/proc/{pid}/task")) == 1  # there is no thread that watches
        os.kill(pid, signal.SIGTERM)
        await ended(descriptor)
        assert os.listdir(tmp_path / "s") == []
    finally:
        end_all(host, descriptor)


STUBBORN = {
    "a handler that refuses its cancellation": """
async def be_busy():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
""",
    "a thread that never returns": """
import time
async def be_busy(): await asyncio.to_thread(time.sleep, 3600)
""",
}


@pytest.mark.parametrize("stubborn", STUBBORN)
async def test_it_ends_after_its_grace_whatever_handlers_do(start: Start, stubborn: str) -> None:
    """With status 1, a word about it, and no socket left: a host in Go would kill it and leave the socket."""
    host = start(
        STUBBORN[stubborn]
        + """
async def on_call(_):
    logging.getLogger().warning("busy")
    await be_busy()
serve(Control(on_call), grace=0.1)
"""
    )
    channel = await host.connect()
    pending = asyncio.ensure_future(host.call())
    await host.stderr_line("busy")
    assert await controller.request_shutdown(channel, timeout=PATIENCE)

    assert await host.wait() == 1
    assert host.sockets == []
    event = await host.stderr_event("did not end in time")
    assert event["@level"] == "error"
    pending.cancel()
    await asyncio.wait([pending])


async def test_what_goes_on_after_serve_has_all_the_time(start: Start) -> None:
    """Once serve() has returned, the process is the program's own again."""
    host = start(
        """
        async def on_call(text): return text.upper()
        serve(Control(on_call), grace=0.1)
        import time
        time.sleep(1)  # longer than the grace and what comes after it
        os.write(2, b"cleaned up\\n")
        """
    )
    channel = await host.connect()
    assert await controller.request_shutdown(channel, timeout=PATIENCE)

    assert await host.wait() == 0
    assert b"cleaned up" in host.stderr.all()
