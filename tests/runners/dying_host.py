"""A host that launches one plugin, says who there is, waits for a line, and dies in the way that it was told.

Arguments: the way to die, `guard` or `alone`, and the plugin's command.
"""

# Printing is how this program answers.
# ruff: noqa: T201

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import sys

from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner
from supervisor.spec import PluginSpec


async def launch(guard: bool, command: list[str]) -> tuple[SubprocessRunner, SubprocessProcess]:
    """Launch the plugin, relay the pids that it prints and add our own."""
    runner = SubprocessRunner(guard=guard)
    spec = PluginSpec(name="a", command=tuple(command))
    process = await runner.launch(spec, generation=1, variables={})
    pids = json.loads(await process.stdout.receive())
    guarded = {"guard": runner._guard.pid} if runner._guard else {}
    print(json.dumps({"pids": pids, **guarded, "directory": runner._directory.path}), flush=True)
    sys.stdin.readline()
    return runner, process


def fork_worker() -> None:
    """Leave a forked worker behind that holds a copy of all our descriptors, but of the test's pipes."""
    if os.fork() == 0:
        for descriptor in range(3):
            os.close(descriptor)
        signal.alarm(20)
        while True:
            signal.pause()


def die(way: str) -> None:
    """Die."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    match way:
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        case "_exit":
            os._exit(0)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exec":
            os.execv("/bin/sleep", ["sleep", "20"])
        case "forked":
            fork_worker()
            os.kill(os.getpid(), signal.SIGKILL)
        case "exception":
            raise RuntimeError("unhandled")


async def main(way: str, guard: str, *command: str) -> None:
    """Launch, and die inside the running loop."""
    kept = await launch(guard == "guard", list(command))
    die(way)
    del kept


asyncio.run(main(*sys.argv[1:]))
