"""A well-behaved plugin of our own sdk, with keys that make it misbehave while it serves.

`Get` of these keys; any other answers what `Put` stored, or nothing:

    pid             its process id
    hang            never answers
    hanging:NUMBER  answers when so many calls hang
    sleep:SECONDS   answers late
    big:BYTES       answers so many bytes
    crash:CODE      exits in the middle of the call
    signal:NUMBER   sends itself a signal in the middle of the call
    raise           raises in the handler
    spawn           starts children that try to get away (`tests/evil/family.py`) and answers their pids as JSON

`/test.Stream/Follow` streams: one answer for a start, then none for ever (`hang`), so many (a number), or so large
ones for ever (`endless:BYTES`).

It listens on `--network`, and speaks TLS with `--tls CERTIFICATE KEY AUTHORITY`.

With `--history FILE` each request's key is appended to the file, and is on its way to disk before anything happens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS.parent / "examples" / "kv"))

from grpclib.const import Cardinality, Handler  # noqa: E402  # after the path to the contract
from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest  # noqa: E402

from supervisor.sdk import serve  # noqa: E402
from supervisor.tls import TlsFiles  # noqa: E402

FOLLOW = "/test.Stream/Follow"


class Kv(KvBase):
    """Keeps values in memory."""

    def __init__(self, history: str | None) -> None:
        self.values: dict[str, bytes] = {}
        self.history = history
        self.hanging = 0
        self.one_more = asyncio.Event()

    async def get(self, message: GetRequest) -> GetResponse:
        """Do what the key says."""
        self._write_down(message.key)
        what, _, argument = message.key.partition(":")
        value = self.values.get(message.key, b"")
        match what:
            case "pid":
                value = str(os.getpid()).encode()
            case "hang":
                self.hanging += 1
                self.one_more.set()
                await asyncio.Event().wait()
            case "hanging":
                while self.hanging < int(argument):
                    self.one_more.clear()
                    await self.one_more.wait()
            case "sleep":
                await asyncio.sleep(float(argument))
            case "big":
                value = bytes(int(argument))
            case "crash":
                os._exit(int(argument))
            case "signal":
                os.kill(os.getpid(), int(argument))
            case "raise":
                raise ValueError("asked to raise")
            case "spawn":
                value = start_family()
        return GetResponse(value=value)

    async def put(self, message: PutRequest) -> Empty:
        """Store a value."""
        self._write_down(message.key)
        self.values[message.key] = message.value
        return Empty()

    def _write_down(self, key: str) -> None:
        if self.history is not None:
            with Path(self.history).open("a") as file:
                file.write(f"{key}\n")


class Stream:
    """A service with a server-streaming method, written by hand."""

    async def follow(self, stream: Any) -> None:
        """Answer once, and then as the key says."""
        request = await stream.recv_message()
        await stream.send_message(GetResponse(value=b"0"))
        if request.key == "hang":
            await asyncio.Event().wait()
        if request.key.startswith("endless:"):
            while True:
                await stream.send_message(GetResponse(value=bytes(int(request.key[8:]))))
        for number in range(1, int(request.key)):
            await stream.send_message(GetResponse(value=str(number).encode()))

    def __mapping__(self) -> Mapping[str, Handler]:
        return {FOLLOW: Handler(self.follow, Cardinality.UNARY_STREAM, GetRequest, GetResponse)}


def start_family() -> bytes:
    """Start the children, which hold our stderr open, and return their pids as one line of JSON."""
    family = subprocess.Popen(
        [sys.executable, "-I", "-S", str(TESTS / "evil" / "family.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert family.stdout is not None
    return family.stdout.readline()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--history")
    parser.add_argument("--network", default="unix")
    parser.add_argument("--tls", nargs=3)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tls = None
    if arguments.tls:
        certificate, key, authority = arguments.tls
        tls = TlsFiles(certificate=certificate, key=key, authority=authority)
    serve(Kv(arguments.history), Stream(), network=arguments.network, tls=tls)
