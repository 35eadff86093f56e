"""The client process of one system: `python -m benchmarks.driver SYSTEM`.

A line of JSON each way. It says `{}` when the system is up, and then answers each workload that it is given
(`{"kind": "unary", "in_flight": 64, "seconds": 0.2}`) with its figures. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from benchmarks.contract import VALUE
from benchmarks.event_loops import run_on
from benchmarks.systems import SYSTEMS, connect
from benchmarks.workloads import WORKLOADS


def claim_stdout() -> int:
    """Return a descriptor for the answers; what else is printed from now on goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


async def serve(name: str, answers: int) -> None:
    """Do workloads until there are no more."""
    requests = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    async with connect(name) as system:
        assert await system.call() == VALUE
        answer(answers, {})
        while line := await requests.readline():
            parameters = json.loads(line)
            answer(answers, await WORKLOADS[parameters.pop("kind")](system, **parameters))


def answer(answers: int, value: Any) -> None:
    """Send one line; short enough to fit into the pipe at once."""
    os.write(answers, json.dumps(value).encode() + b"\n")


def main() -> None:
    """Run from the harness."""
    answers, name = claim_stdout(), sys.argv[1]
    run_on(SYSTEMS[name].loop, serve(name, answers))


if __name__ == "__main__":
    main()
