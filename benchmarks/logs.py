"""Logs: records per second from a plugin into the host's structlog pipeline, what is lost of a flood, and CPU for each.

python -m benchmarks.logs [--json] [--plot FILE] [--rounds N] [--only WAY,...]

A supervised plugin logs 20,000 records of three key/values as fast as it can, with a turn of its loop after each hundred:
`stream` through structlog, whose records the SDK sends as typed values; `stderr` as lines of JSON, as plugins of other
languages do. The host has the default observer, and its structlog renders JSON. What is lost is what the host says it lost.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from benchmarks.clocks import Meter
from benchmarks.comparison import Comparison, Plan, run
from benchmarks.contract import PROJECT, LoadStub, Order
from benchmarks.figures import Figures, Results, Used
from benchmarks.harness import BenchmarkError, take_turns
from benchmarks.report import Column, write_cpu
from supervisor import PluginSpec, Supervisor

_RECORDS = 20_000
_TEXT = 40
"""Characters of text in each record."""

_PATIENCE = 20.0
"""Seconds without a record before the rest is given up."""

COMPARISON = Comparison(
    name="logs",
    about=__doc__,
    headline=f"{_RECORDS:,} log records of a plugin into the host's structlog",
    legend="/s: records that arrived per second; lost %: of those that were logged; CPU: µs per record logged, host+plugin",
    systems=("stream", "stderr"),
    columns=(
        Column("/s", "flood", "records_per_s"),
        Column("lost %", "flood", "lost_percent", lambda figures: f"{figures['lost_percent']:.1f}"),
        Column("CPU", "flood", "cpu_us", write_cpu),
    ),
    rounds=5,
)


class Counter:
    """The end of the host's pipeline: what arrived of each plugin, and what the host says it lost."""

    def __init__(self) -> None:
        self.arrived: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        self.last_at = 0.0
        self._news = asyncio.Event()

    def look(self, _: object, __: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Count an event, as a processor of structlog's, and pass it on."""
        if event["event"] == "order placed":
            self.arrived[event["plugin"]] = self.arrived.get(event["plugin"], 0) + 1
            self.last_at = time.perf_counter()
        elif event["event"] == "plugin.logs_dropped":
            self.lost[event["plugin"]] = self.lost.get(event["plugin"], 0) + event["count"]
        self._news.set()
        return event

    async def all_of(self, plugin: str, count: int) -> tuple[int, int]:
        """Wait until that many records have arrived or are lost, return how many of each, and begin anew.

        Raises:
            BenchmarkError: some are neither.
        """
        while self.arrived.get(plugin, 0) + self.lost.get(plugin, 0) < count:
            self._news.clear()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._news.wait()
            except TimeoutError:
                raise BenchmarkError(f"{plugin}: records are missing and nobody counted them: {self}") from None
        return self.arrived.pop(plugin, 0), self.lost.pop(plugin, 0)

    def __str__(self) -> str:
        return f"arrived {self.arrived}, lost {self.lost}"


def configure_structlog(counter: Counter) -> None:
    """Give the host a pipeline as applications have it, which ends in memory."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            counter.look,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )


async def flood(way: str, stub: LoadStub, pid: int, counter: Counter) -> Figures:
    """Have one plugin log, and return what became of it."""
    begun, meter = time.perf_counter(), Meter([pid])
    await stub.log(Order(count=_RECORDS, size=_TEXT), timeout=60)
    arrived, lost = await counter.all_of(way, _RECORDS)
    used = meter.read()
    used = Used(seconds=counter.last_at - begun, client_cpu=used.client_cpu, server_cpu=used.server_cpu)
    return {
        "records_per_s": arrived / used.seconds,
        "lost_percent": 100 * lost / _RECORDS,
        **used.cpu_figures(_RECORDS),
    }


async def take(plan: Plan) -> Results:
    """Have both plugins flood the host in turn."""
    counter = Counter()
    configure_structlog(counter)
    async with AsyncExitStack() as stack:
        floods = {}
        for way in plan.systems:
            spec = PluginSpec(
                name=way,
                command=(sys.executable, "-m", "benchmarks.servers.logging", way),
                cwd=str(PROJECT),
                env={name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            )
            supervisor = await stack.enter_async_context(Supervisor([spec]))
            stub, pid = await supervisor.dispense(way, LoadStub), supervisor.plugin(way).pid
            assert pid is not None
            floods[way] = partial(flood, way, stub, pid, counter)

        async def do(way: str, _: str) -> Figures:
            return await floods[way]()

        return await take_turns(plan.systems, ["flood"], do, rounds=plan.rounds, on_round=plan.on_round)


if __name__ == "__main__":
    run(COMPARISON, take)
