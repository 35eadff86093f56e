"""Keep the clients of all systems up and have them take turns."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

from benchmarks.contract import PROJECT
from benchmarks.figures import Figures, Results, interleave
from benchmarks.processes import ended, kept_to
from benchmarks.systems import SYSTEMS, missing

__all__ = ["BenchmarkError", "Client", "find_commands", "measure", "running", "take_turns"]

_PATIENCE = 30.0
"""Seconds for a client to start, to answer beyond the length of a slice, and to end."""

_CAN = {"unary": "unary", "dressed": "dressed", "download": "streams", "upload": "streams", "beside": "streams"}
"""A workload's kind → what a system must be able to do."""


class BenchmarkError(Exception):
    """A client failed; what it had to say is on stderr."""


class Client:
    """The client process of one system, and through it the system."""

    def __init__(self, system: str, process: Process) -> None:
        self.system = system
        self._process = process

    async def do(self, workload: Mapping[str, Any]) -> Figures:
        """Do a workload for one slice; with `one_processor` both of its processes share a processor meanwhile.

        Raises:
            BenchmarkError: the client ended, or did not answer in time.
        """
        assert self._process.stdin is not None
        asked = {**workload}
        kept = nullcontext()
        if asked.pop("one_processor", False):
            kept = kept_to(self._process.pid, {min(os.sched_getaffinity(0))})  # type: ignore[assignment]  # both give None
        with kept:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
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


def find_commands(systems: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return what starts the client of each system; and why of those that cannot run here."""
    commands, skipped = {}, {}
    for system in systems:
        if reason := missing(system):
            skipped[system] = reason
        elif system == "go_plugin":
            from benchmarks.systems.go_plugin import build  # noqa: PLC0415  # it may take a while

            program, reason = build()
            if program is None:
                skipped[system] = reason
            else:
                commands[system] = [str(program)]
        else:
            commands[system] = [sys.executable, "-m", "benchmarks.driver", system]
    return commands, skipped


@asynccontextmanager
async def running(system: str, command: Sequence[str]) -> AsyncIterator[Client]:
    """Start the client of a system; on leaving it ends in order, or is killed.

    Raises:
        BenchmarkError: it did not come up.
    """
    # Compiled modules are what every installation has; without them start-up is another measurement.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE, stdout=PIPE, cwd=PROJECT, env=environment,
        start_new_session=True,  # Ctrl-C is for this process; the others end when their input does
    )  # fmt: skip
    async with ended(process, within=_PATIENCE):
        client = Client(system, process)
        await client.answer(within=_PATIENCE)
        yield client


async def measure(
    commands: Mapping[str, Sequence[str]],
    workloads: Mapping[str, Mapping[str, Any]],
    *,
    rounds: int,
    on_round: Callable[[int], None] = lambda _: None,
) -> Results:
    """Measure each workload on each system that can do it, once in each round, after a round that does not count.

    Args:
        commands: what starts the client of each system.
        workloads: what a client is asked to do, by the workload's name; `kind` and `seconds` among it.
        rounds: how many count.
        on_round: told of each round that begins, from 0, the one that does not count.

    Raises:
        BenchmarkError: a client failed.
    """
    async with AsyncExitStack() as stack:
        clients = {
            system: await stack.enter_async_context(running(system, command)) for system, command in commands.items()
        }

        async def do(system: str, workload: str) -> Figures | None:
            asked = workloads[workload]
            return await clients[system].do(asked) if _CAN[asked["kind"]] in SYSTEMS[system].does else None

        return await take_turns(list(commands), list(workloads), do, rounds=rounds, on_round=on_round)


async def take_turns(
    systems: Sequence[str],
    workloads: Sequence[str],
    do: Callable[[str, str], Awaitable[Figures | None]],
    *,
    rounds: int,
    on_round: Callable[[int], None] = lambda _: None,
    warm_up: bool = True,
) -> Results:
    """Have `do(system, workload)` measure each workload on each system, once in each round.

    What it returns None for, the system does not have. To warm up, a round that does not count goes before.
    """
    results = Results()
    for number in range(0 if warm_up else 1, rounds + 1):
        on_round(number)
        for system, workload in interleave(systems, workloads, rounds=1):
            figures = await do(system, workload)
            if number and figures is not None:
                results.add(system, workload, figures)
    return results
