"""`interop.Peer` served by grpcio: `served_by_grpcio.py sync|aio FOLDER`; see `peers` for what it says and hears."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped] # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped] # the same
from grpc_peer import CANCELLED, KINDS, echoed, pattern, summary
from told_calls import say

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
FEW = [("grpc.max_concurrent_streams", 10), ("grpc.max_metadata_size", 8192), ("grpc.absolute_max_metadata_size", 8192)]
PATIENCE = 5.0


def failure(context: Any, request: bytes) -> tuple[Any, str]:
    """Return the status that a request for `Fail` asks for; its details are set."""
    said = json.loads(request)
    if said.get("details"):
        context.set_trailing_metadata((("grpc-status-details-bin", base64.b64decode(said["details"])),))
    code = next(code for code in grpc.StatusCode if code.value[0] == said["code"])
    return code, said["message"]


def left(context: Any) -> bytes:
    """Return what `Left` answers."""
    remaining = context.time_remaining()
    # Without a deadline it says how long it is until the end of time.
    return b"none" if remaining is None or remaining > 1e6 else b"%d" % (remaining * 1000)


class Sync:
    """The service, on threads."""

    def __init__(self) -> None:
        self._ended: dict[bytes, threading.Event] = {}
        self._lock = threading.Lock()

    def event(self, token: bytes) -> threading.Event:
        with self._lock:
            return self._ended.setdefault(token, threading.Event())

    def echo(self, request: bytes, context: Any) -> bytes:
        metadata = list(context.invocation_metadata())
        if any(key == "x-zip" for key, _ in metadata):
            context.set_compression(grpc.Compression.Gzip)
        context.send_initial_metadata(echoed(metadata))
        context.set_trailing_metadata(echoed(metadata))
        return request

    def down(self, request: bytes, _context: Any) -> Iterator[bytes]:
        count, size = map(int, request.split(b":"))
        yield from (pattern(size) for _ in range(count))

    def up(self, requests: Iterator[bytes], _context: Any) -> bytes:
        return summary(requests)

    def relay(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            if request == b"stop":
                return
            if request == b"fail":
                context.abort(grpc.StatusCode.ABORTED, "enough")
            yield request

    def fail(self, request: bytes, context: Any) -> bytes:
        context.abort(*failure(context, request))
        raise AssertionError("abort raises")

    def hang(self, request: bytes, context: Any) -> bytes:
        ended = self.event(request)
        if not context.add_callback(ended.set):
            ended.set()  # it was cancelled before it began
        ended.wait()
        return b""

    def follow(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        ended = self.event(next(requests))
        if not context.add_callback(ended.set):
            ended.set()  # it was cancelled before it began
        yield b"begun"
        ended.wait()

    def ended(self, request: bytes, _context: Any) -> bytes:
        return CANCELLED if self.event(request).wait(PATIENCE) else b""

    def left(self, _request: bytes, context: Any) -> bytes:
        return left(context)


class Aio:
    """The service, on an event loop."""

    def __init__(self) -> None:
        self._ended: dict[bytes, asyncio.Event] = {}

    def event(self, token: bytes) -> asyncio.Event:
        return self._ended.setdefault(token, asyncio.Event())

    async def echo(self, request: bytes, context: Any) -> bytes:
        metadata = list(context.invocation_metadata())
        if any(key == "x-zip" for key, _ in metadata):
            context.set_compression(grpc.Compression.Gzip)
        await context.send_initial_metadata(echoed(metadata))
        context.set_trailing_metadata(echoed(metadata))
        return request

    async def down(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        count, size = map(int, request.split(b":"))
        for _ in range(count):
            yield pattern(size)

    async def up(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return summary([request async for request in requests])

    async def relay(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"stop":
                return
            if request == b"fail":
                await context.abort(grpc.StatusCode.ABORTED, "enough")
            yield request

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort(*failure(context, request))
        raise AssertionError("abort raises")

    async def hang(self, request: bytes, _context: Any) -> bytes:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.event(request).set()
        return b""

    async def follow(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        token = await anext(requests)
        try:
            yield b"begun"
            await self.hang(token, context)
        finally:  # a stream that is cancelled at once is so at its `yield`
            self.event(token).set()

    async def ended(self, request: bytes, _context: Any) -> bytes:
        try:
            await asyncio.wait_for(self.event(request).wait(), PATIENCE)
        except TimeoutError:
            return b""
        return CANCELLED

    async def left(self, _request: bytes, context: Any) -> bytes:
        return left(context)


def register(server: Any, service: Any) -> None:
    """Serve the methods, whose messages are bytes."""
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: makers[kind.client_streaming, kind.server_streaming](getattr(service, name.lower()))
        for name, kind in KINDS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Peer", handlers),))


def listen(make: Callable[..., Any], service: Any, folder: Path) -> tuple[list[Any], dict[str, str]]:
    """Return a server for everything, one that takes few calls and short headers, and where they are."""
    server, few = make(OPTIONS), make([*OPTIONS, *FEW])
    for each in (server, few):
        register(each, service)
    key, certificate, authority = ((folder / name).read_bytes() for name in ("peer.key", "peer.pem", "authority.pem"))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    server.add_insecure_port(f"unix:{folder / 'all'}")
    tcp = server.add_insecure_port("127.0.0.1:0")
    tls = server.add_secure_port("127.0.0.1:0", credentials)
    few.add_insecure_port(f"unix:{folder / 'few'}")
    places = {"unix": str(folder / "all"), "tcp": str(tcp), "tls": str(tls), "few": str(folder / "few")}
    return [server, few], places


def main_sync(folder: Path) -> None:
    """Serve until told to stop."""

    def make(options: list[Any]) -> Any:
        return grpc.server(ThreadPoolExecutor(64), options=options)

    servers, places = listen(make, Sync(), folder)
    for server in servers:
        server.start()
    say(places)
    for line in sys.stdin:
        if line == "drain\n":
            for server in servers:
                server.stop(10)
    for server in servers:
        server.stop(0)


async def main_aio(folder: Path) -> None:
    """Serve until told to stop."""
    servers, places = listen(make_aio, Aio(), folder)
    for server in servers:
        await server.start()
    say(places)
    stopping: list[asyncio.Task[None]] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line == "drain\n":
            stopping = [asyncio.create_task(server.stop(10)) for server in servers]
    for task in stopping:
        task.cancel()
    for server in servers:
        await server.stop(0)


def make_aio(options: list[Any]) -> Any:
    """Return a server."""
    return grpc.aio.server(options=options)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        main_sync(Path(sys.argv[2]))
    else:
        asyncio.run(main_aio(Path(sys.argv[2])))
