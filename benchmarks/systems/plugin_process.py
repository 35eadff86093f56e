"""A plugin of `benchmarks.servers` started by the book, for a host that is not ours."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.contract import PROJECT
from benchmarks.processes import ended
from supervisor.spec import MagicCookie

__all__ = ["plugin_environment", "read_handshake", "started_plugin"]

_PATIENCE = 20.0
"""Seconds to start, and to end."""


def plugin_environment(folder: str) -> dict[str, str]:
    """Return what a plugin finds in its environment: the cookie, a folder for its socket, the end of the host."""
    cookie = MagicCookie()
    asked = {"PLUGIN_UNIX_SOCKET_DIR": folder, "PLUGIN_LIFELINE": "stdin"}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **asked, cookie.key: cookie.value}


def read_handshake(line: bytes) -> str:
    """Return the path of the unix socket that a plugin's first line names."""
    _, _, network, path, *_ = line.decode().strip().split("|")
    assert network == "unix"
    return path


@asynccontextmanager
async def started_plugin(name: str, loop: str) -> AsyncIterator[tuple[str, int]]:
    """Start a plugin and yield the path of its unix socket and its pid; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"benchmarks.servers.{name}", loop,
            stdin=PIPE, stdout=PIPE, cwd=PROJECT, env=plugin_environment(folder),
        )  # fmt: skip
        async with ended(process, within=_PATIENCE):
            assert process.stdout is not None
            async with asyncio.timeout(_PATIENCE):
                line = await process.stdout.readline()
            yield read_handshake(line), process.pid
