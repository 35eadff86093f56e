"""Keep the clients of all systems up and have them take turns."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from benchmarks.contract import PROJECT
from benchmarks.figures import Figures, Results, interleave

__all__ = ["BenchmarkError", "Client", "measure", "running"]

_PATIENCE = 30.0
"""Seconds for a client to start, to answer beyond the length of a slice, and to end."""


class BenchmarkError(Exception):
    """A client failed; what it had to say is on stderr."""


class Client:
    """The client process of one system, and through it the system."""

    def __init__(self, system: str, process: Process) -> None:
        self.system = system
        self._process = process

    async def do(self, workload: Mapping[str, Any]) -> Figures:
        """Do a workload for one slice.

        Raises:
            BenchmarkError: the client ended, or did not answer in time.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(workload).encode() + b"\n")
        figures: Figures = await self.answer(within=workload["seconds"] + _PATIENCE)
        return figures

    async def answer(self, *, within: float) -> Any:
        """Return the next answer."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchmarkError(f"{self.system} did not answer within {within:g} s") from None
        if not line:
            raise BenchmarkError(f"{self.system} ended with status {await self._process.wait()}")
        return json.loads(line)


@asynccontextmanager
async def running(system: str) -> AsyncIterator[Client]:
    """Start the client of a system; on leaving it ends in order, or is killed.

    Raises:
        BenchmarkError: it did not come up.
    """
    # Compiled modules are what every installation has; without them start-up is another measurement.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.driver", system,
        stdin=PIPE, stdout=PIPE, cwd=PROJECT, env=environment,
        start_new_session=True,  # Ctrl-C is for this process; the others end when their input does
    )  # fmt: skip
    assert process.stdin is not None
    try:
        client = Client(system, process)
        await client.answer(within=_PATIENCE)
        yield client
    finally:
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure(
    systems: Sequence[str],
    workloads: Mapping[str, Mapping[str, Any]],
    *,
    rounds: int,
    on_round: Callable[[int], None] = lambda _: None,
) -> Results:
    """Measure each workload on each system, once in each round, after a round that does not count.

    Args:
        systems: their names.
        workloads: what a client is asked to do, by the workload's name; `seconds` among it.
        rounds: how many count.
        on_round: told of each round that begins, from 0, the one that does not count.

    Raises:
        BenchmarkError: a client failed.
    """
    results = Results()
    async with AsyncExitStack() as stack:
        clients = {system: await stack.enter_async_context(running(system)) for system in systems}
        for number in range(rounds + 1):
            on_round(number)
            for system, workload in interleave(systems, list(workloads), rounds=1):
                figures = await clients[system].do(workloads[workload])
                if number:
                    results.add(system, workload, figures)
    return results
