"""The process that `benchmarks.memory` looks at: `python -m benchmarks.channel_memory SYSTEM COUNT rss|traced`.

It opens COUNT channels to one server, makes a call on each, and prints by how many bytes each has made it grow.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import resource
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.contract import KEY, VALUE, GetRequest, KvStub
from benchmarks.systems.server_process import serving

_WARM_UP = 50
"""Channels that are not counted: what the first ones load stays loaded."""


async def open_ours(path: str) -> object:
    """Open this library's channel as a supervisor does."""
    dialling = importlib.import_module("supervisor.transport.dial")
    address = importlib.import_module("supervisor.address").UnixAddress(path)
    channel = await dialling.dial(address, timeout=10)
    stub = importlib.import_module("supervisor.transport.generated").repair_stub(KvStub(channel))
    assert (await stub.get(GetRequest(key=KEY))).value == VALUE
    return stub


async def open_stock_grpclib(path: str) -> object:
    """Open grpclib's channel."""
    stub = KvStub(importlib.import_module("grpclib.client").Channel(path=path))
    assert (await stub.get(GetRequest(key=KEY))).value == VALUE
    return stub


async def open_grpc_aio(path: str) -> object:
    """Open grpcio's channel; it would share one connection between equal channels, which plugins do not have."""
    google = importlib.import_module("benchmarks.google_messages")
    options = (("grpc.use_local_subchannel_pool", 1),)
    channel: Any = importlib.import_module("grpc.aio").insecure_channel(f"unix:{path}", options=options)
    stub = google.kv_services.KVStub(channel)
    assert (await stub.Get(google.kv.GetRequest(key=KEY))).value == VALUE
    return channel, stub


OPEN: dict[str, tuple[Callable[[str], Awaitable[object]], str]] = {
    "ours": (open_ours, "bare"),
    "stock_grpclib": (open_stock_grpclib, "stock_grpclib"),
    "grpc_aio": (open_grpc_aio, "grpc_aio"),
}
"""System → what opens a channel, and the server."""


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def traced() -> int:
    """Return the bytes that Python's own allocations have now."""
    return tracemalloc.get_traced_memory()[0]


async def measure(system: str, count: int, read: Callable[[], int]) -> float:
    """Return bytes per channel."""
    opener, server = OPEN[system]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * count + 200 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * count + 200, hard))  # inherited by the server
    async with serving(server) as (path, _):
        kept = [await opener(path) for _ in range(_WARM_UP)]
        gc.collect()
        before = read()
        kept += [await opener(path) for _ in range(count)]
        gc.collect()
        return (read() - before) / count


async def main() -> None:
    """Print the figure; the channels end with the process."""
    system, count, way = sys.argv[1:]
    if way == "traced":
        tracemalloc.start()
    print(json.dumps(await measure(system, int(count), traced if way == "traced" else resident)))


if __name__ == "__main__":
    asyncio.run(main())
