"""A host of a few lines: it starts a plugin program, reads the handshake, dials, and looks at the pipes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality

from supervisor.address import UnixAddress
from supervisor.handshake import Handshake, parse_handshake
from supervisor.spec import MagicCookie
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial

__all__ = ["PATIENCE", "RawHost", "Text"]

PATIENCE = 20.0
"""Seconds before a test gives up on a plugin; reached only by a test that fails."""

PREAMBLE = '''
import asyncio, contextlib, logging, os, subprocess, sys, threading
import structlog
from grpclib.const import Cardinality, Handler
from supervisor.sdk import current, serve, serve_async

class Text(str):
    def SerializeToString(self): return self.encode()
    @classmethod
    def FromString(cls, data): return cls(data.decode())

class Control:
    """One method: `on_call` gets the request's text and returns the response's."""
    def __init__(self, on_call): self.on_call = on_call
    def __mapping__(self):
        return {"/test.Control/Run": Handler(self.run, Cardinality.UNARY_UNARY, Text, Text)}
    async def run(self, stream):
        answer = await self.on_call(await stream.recv_message())
        await stream.send_message(Text(answer or ""))
'''


class Text(str):
    """A message that is its text in UTF-8."""

    __slots__ = ()

    def SerializeToString(self) -> bytes:  # noqa: N802  # the name by which codecs know a message
        """Return the bytes."""
        return self.encode()

    @classmethod
    def FromString(cls, data: bytes) -> Text:  # noqa: N802
        """Take the bytes."""
        return cls(data.decode())


class _Pipe:
    """Drains a pipe in a thread, so that the plugin never waits for the test."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._data = b""
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self._descriptor, 65536):
            with self._changed:
                self._data += chunk
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, found: Callable[[bytes], bool]) -> bytes:
        """Return all that was read once `found` likes it, or the pipe ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: found(self._data) or self._ended, PATIENCE), self._data
            return self._data

    def all(self) -> bytes:
        """Return everything, up to the end."""
        self._thread.join(PATIENCE)
        assert self._ended, self._data
        return self._data


class RawHost:
    """A plugin program under test; leaving the context kills what is left of it."""

    def __init__(self, source: str, directory: Path, **environment: str) -> None:
        cookie = MagicCookie()
        program = directory / "plugin.py"
        program.write_text(PREAMBLE + textwrap.dedent(source))
        self.socket_directory = directory / "s"
        self.socket_directory.mkdir(mode=0o700, exist_ok=True)
        known = {
            cookie.key: cookie.value,
            "PLUGIN_PROTOCOL_VERSIONS": "1",
            "PLUGIN_UNIX_SOCKET_DIR": str(self.socket_directory),
            # So that no plugin outlives a test run that is killed.
            "PLUGIN_LIFELINE": "stdin",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        variables = {key: value for key, value in (known | environment).items() if value}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdin = self.process.stdin
        self.stdout = _Pipe(self.process.stdout.fileno())
        self.stderr = _Pipe(self.process.stderr.fileno())
        self.channel: Channel | None = None

    @property
    def handshake_line(self) -> bytes:
        """The first line on stdout."""
        data = self.stdout.wait_for(lambda data: b"\n" in data)
        assert b"\n" in data, (data, self.stderr.all().decode())
        return data.partition(b"\n")[0] + b"\n"

    @property
    def handshake(self) -> Handshake:
        """The first line, parsed."""
        return parse_handshake(self.handshake_line, versions=(1, 2, 3))

    async def connect(self) -> Channel:
        """Dial the address that the handshake names."""
        self.channel = await dial(self.handshake.address, timeout=PATIENCE)
        return self.channel

    async def call(self, text: str = "", *, timeout: float = PATIENCE) -> str:
        """Call the plugin's own method."""
        assert self.channel is not None
        stream: Any
        async with self.channel.request(
            "/test.Control/Run", Cardinality.UNARY_UNARY, Text, Text, timeout=timeout
        ) as stream:
            await stream.send_message(Text(text), end=True)
            answer: Text = await stream.recv_message()
        return str(answer)

    async def stderr_line(self, part: str) -> str:
        """Wait for a line on stderr that contains `part` and return it."""
        wanted = part.encode()

        def found(data: bytes) -> bool:
            return any(wanted in line and line.endswith(b"\n") for line in data.splitlines(keepends=True))

        lines = (await asyncio.to_thread(self.stderr.wait_for, found)).splitlines()
        return next((line for line in lines if wanted in line), b"").decode()

    async def stderr_event(self, part: str) -> dict[str, Any]:
        """Wait for a line on stderr that contains `part` and return it, parsed as JSON."""
        event = json.loads(await self.stderr_line(part))
        assert isinstance(event, dict)
        return event

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the plugin."""
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Wait for the plugin to end and return its exit status."""
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    @property
    def sockets(self) -> list[str]:
        """The names in the directory that the plugin was told to use."""
        return sorted(path.name for path in self.socket_directory.iterdir())

    @property
    def socket_path(self) -> str:
        """Where the plugin listens."""
        address = self.handshake.address
        assert isinstance(address, UnixAddress)
        return address.path

    async def aclose(self) -> None:
        """Kill what is left of the plugin and close everything."""
        if self.channel is not None:
            self.channel.close()
            # The transport closes its socket in the loop's next iteration.
            await asyncio.sleep(0)
        if self.process.poll() is None:
            self.process.kill()
        await self.wait()
        self.stdin.close()
        for pipe, file in ((self.stdout, self.process.stdout), (self.stderr, self.process.stderr)):
            await asyncio.to_thread(pipe.all)
            assert file is not None
            file.close()
