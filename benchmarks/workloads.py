"""What a client does for one slice, measured from inside: latencies by its own clock, CPU by the processes' clocks.

Each workload takes the system, `seconds`, and parameters of its own, and returns figures. What has begun when the time is
over is finished and counted, so that a slice is at least one call of each caller, or one stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from benchmarks.clocks import Meter
from benchmarks.figures import Figures, Flow, Slice
from benchmarks.systems import Pair, System

__all__ = ["WORKLOADS", "run_unary"]


async def run_unary(
    call: Callable[[], Awaitable[object]], *, in_flight: int, seconds: float, server_pids: Iterable[int]
) -> Slice:
    """Keep `in_flight` calls under way for `seconds`: as many callers, each of which calls again at once."""
    latencies: list[float] = []
    meter = Meter(server_pids)
    until = time.perf_counter() + seconds

    async def caller() -> None:
        now = time.perf_counter()
        while True:
            await call()
            done = time.perf_counter()
            latencies.append(done - now)
            now = done
            if now >= until:
                return

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return Slice(latencies=latencies, used=meter.read())


async def unary(system: Pair, *, in_flight: int, seconds: float) -> Figures:
    """Make plain unary calls."""
    made = await run_unary(system.call, in_flight=in_flight, seconds=seconds, server_pids=system.server_pids)
    return made.figures()


async def dressed(system: System, *, in_flight: int, seconds: float) -> Figures:
    """Make unary calls with a deadline and metadata."""
    made = await run_unary(system.call_dressed, in_flight=in_flight, seconds=seconds, server_pids=system.server_pids)
    return made.figures()


async def download(system: System, *, size: int, count: int, seconds: float) -> Figures:
    """Receive streams of `count` items, one after the other, and read their payloads."""
    meter = Meter(system.server_pids)
    until = time.perf_counter() + seconds
    streams = received = 0
    while not received or time.perf_counter() < until:
        async for item in system.download(size, count):
            received += len(item.payload)
        streams += 1
    assert received == streams * count * size
    return Flow(messages=streams * count, size=size, used=meter.read()).figures()


async def upload(system: System, *, size: int, count: int, seconds: float) -> Figures:
    """Send streams of `count` items, each made of the same payload, one after the other."""
    payload = bytes(size)
    meter = Meter(system.server_pids)
    until = time.perf_counter() + seconds
    sent = 0
    while not sent or time.perf_counter() < until:
        assert await system.upload(system.make_item(payload) for _ in range(count)) == count * size
        sent += count
    return Flow(messages=sent, size=size, used=meter.read()).figures()


class _Downpour:
    """A stream without end to the client."""

    def __init__(self, system: System, size: int) -> None:
        self._stream = system.download(size, 2**40)
        self.messages = 0

    async def run(self, begun: asyncio.Event) -> None:
        """Receive until cancelled."""
        async for _ in self._stream:
            self.messages += 1
            begun.set()


class _Geyser:
    """A stream without end to the server."""

    def __init__(self, system: System, size: int) -> None:
        self._system = system
        self._payload = bytes(size)
        self._over = False
        self.messages = 0

    def _items(self, begun: asyncio.Event) -> Iterator[Any]:
        while not self._over:
            self.messages += 1
            # The windows are full by then, so that it waits for the server as it will from now on.
            if self.messages == 1000:
                begun.set()
            yield self._system.make_item(self._payload)

    async def run(self, begun: asyncio.Event) -> None:
        """Send until cancelled."""
        try:
            await self._system.upload(self._items(begun))
        finally:
            self._over = True


async def beside(system: System, *, stream: str, size: int, seconds: float) -> Figures:
    """Make unary calls, one at a time, beside a stream without end on the same channel: `down` or `up`."""
    firehose = _Downpour(system, size) if stream == "down" else _Geyser(system, size)
    begun = asyncio.Event()
    running = asyncio.create_task(firehose.run(begun))
    try:
        await begun.wait()
        before = firehose.messages
        made = await run_unary(system.call, in_flight=1, seconds=seconds, server_pids=system.server_pids)
        flowed = firehose.messages - before
        assert not running.done(), "the stream ended while others called"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    figures = made.figures()
    taken = ("calls", "calls_per_s", "p50_us", "p99_us")
    return {**{name: figures[name] for name in taken}, "messages_per_s": flowed / made.used.seconds}


WORKLOADS: Mapping[str, Callable[..., Awaitable[Figures]]] = {
    "unary": unary,
    "dressed": dressed,
    "download": download,
    "upload": upload,
    "beside": beside,
}
"""Kind → what does it."""
