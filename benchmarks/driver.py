"""The client process of one system: `python -m benchmarks.driver SYSTEM`.

A line of JSON each way. It says `{}` when the system is up, and then answers each workload that it is given
(`{"in_flight": 64, "seconds": 0.2}`) with its figures. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from benchmarks.contract import VALUE
from benchmarks.systems import System, load
from benchmarks.workloads import run_unary


def claim_stdout() -> int:
    """Return a descriptor for the answers; what else is printed from now on goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


async def serve(system: System, answers: int) -> None:
    """Do workloads until there are no more."""
    requests = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    async with system:
        assert await system.call() == VALUE
        answer(answers, {})
        while line := await requests.readline():
            measured = await run_unary(system.call, **json.loads(line), server_pids=system.server_pids)
            answer(answers, measured.figures())


def answer(answers: int, value: Any) -> None:
    """Send one line; short enough to fit into the pipe at once."""
    os.write(answers, json.dumps(value).encode() + b"\n")


def main() -> None:
    """Run from the harness."""
    answers = claim_stdout()
    asyncio.run(serve(load(sys.argv[1]), answers))


if __name__ == "__main__":
    main()
