"""Memory: what each further plugin's channel, with a call made on it, takes in the host.

python -m benchmarks.memory [--json] [--plot FILE] [--rounds N] [--only SYSTEM,...]

A process of its own opens 400 channels to one server after 50 that do not count. What it grows by is read twice, in two
runs: as memory that is resident, where a C library's counts too and the allocator rounds, and as Python's own allocations.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE

from benchmarks.comparison import Comparison, Plan, run
from benchmarks.contract import PROJECT
from benchmarks.figures import Figures, Results
from benchmarks.harness import BenchmarkError, take_turns
from benchmarks.report import Column

_CHANNELS = 400

COMPARISON = Comparison(
    name="memory",
    about=__doc__,
    headline="memory of the host for each further channel",
    legend="KB: 1000 bytes; resident: of the process; traced: by tracemalloc, which knows Python's own only",
    systems=("ours", "stock_grpclib", "grpc_aio"),
    references=("grpc_aio", "stock_grpclib"),
    columns=(
        Column("resident KB", "channel", "resident_kb", lambda figures: f"{figures['resident_kb']:.1f}"),
        Column("traced KB", "channel", "traced_kb", lambda figures: f"{figures['traced_kb']:.1f}"),
    ),
    rounds=3,
)


async def weigh(system: str, way: str) -> float:
    """Return the kilobytes of a channel."""
    command = [sys.executable, "-m", "benchmarks.channel_memory", system, str(_CHANNELS), way]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    found, _ = await process.communicate()
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command[1:])} ended with status {process.returncode}")
    return float(json.loads(found)) / 1e3


async def take(plan: Plan) -> Results:
    """Weigh everybody's channels in turn."""

    async def do(system: str, _: str) -> Figures:
        return {"resident_kb": await weigh(system, "rss"), "traced_kb": await weigh(system, "traced")}

    # Each measurement is a process of its own: there is nothing to warm up.
    return await take_turns(plan.systems, ["channel"], do, rounds=plan.rounds, on_round=plan.on_round, warm_up=False)


if __name__ == "__main__":
    run(COMPARISON, take)
