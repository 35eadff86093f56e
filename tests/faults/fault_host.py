"""Hosts that things happen to, each a program of its own: `fault_host.py NAME`. They say on stdout how they fare.

probed      probes a plugin strictly, says `ready`, and after a line on stdin what became of the plugin
headroom    starts a plugin with 0 to 14 descriptors to spare, and again with plenty, and says how each went
unclosed    enters a supervisor, says the plugin's pid, and leaves loop and interpreter without a word to it
collected   the same, and forgets the supervisor before the loop is closed
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from supervisor import Backoff, HealthProbe, PluginSpec, RestartIntensity, RestartPolicy, State, StopPolicy, Supervisor
from supervisor.events import StateChanged

HERE = Path(__file__).parent

KV = PluginSpec(
    name="store",
    command=(sys.executable, str(HERE / "kv_plugin.py")),
    health=HealthProbe(interval=0.2, timeout=0.3, failures=1),
)

EVIL = str(HERE.parent / "evil" / "evil_plugin.py")
GREETER = PluginSpec(
    name="greeter",
    command=(sys.executable, "-I", "-S", EVIL, "listen", "{dir}/s", "handshake", "{dir}/s", "accept", "greet", "hang"),
    health=None,
    stop=StopPolicy(drain=0, shutdown=0, terminate=0),
    restart=RestartPolicy(
        intensity=RestartIntensity(limit=50, period=60), backoff=Backoff(initial=0.05, ceiling=0.05, factor=1)
    ),
)


def say(**what: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(what), flush=True)  # noqa: T201  # what the test reads


async def probed() -> None:
    """Probe strictly until told to say what was seen."""
    async with Supervisor([KV], observers=()) as supervisor:
        await supervisor.ready()
        say(ready=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        plugin = supervisor.plugin("store")
        say(generation=plugin.generation, state=plugin.state.value)


def open_descriptors() -> int:
    """Count them; the listing's own is not among those that stay."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def highest_descriptor() -> int:
    """Return the highest one there is, which is the listing's own."""
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


async def try_with(headroom: int) -> dict[str, Any]:
    """Start with so many descriptors to spare; once that has failed, or not, have plenty and be ready."""
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = highest_descriptor()
    error: BaseException | None = None
    supervisor = Supervisor([GREETER], observers=())
    async with supervisor:
        plugin = supervisor.plugin("greeter")
        with supervisor.subscribe() as events:
            # The listing had the highest one for itself, so the limit leaves `headroom` from there on.
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + headroom, hard))
            try:
                async for event in events:
                    if isinstance(event, StateChanged) and event.new in {State.READY, State.BACKOFF, State.FAILED}:
                        break
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if plugin.last_exit is not None:
            error = plugin.last_exit.error
        async with asyncio.timeout(10):
            await plugin.ready()
    gc.collect()
    return {
        "headroom": headroom,
        "error": type(error).__name__ if error else None,
        "text": str(error),
        "leaked": open_descriptors() - before,
    }


async def headroom() -> None:
    """Try each headroom, after once with plenty: what is opened once and kept, is by then."""
    async with Supervisor([GREETER], observers=()) as supervisor:
        await supervisor.ready()
    for spare in range(15):
        say(**await try_with(spare))


def unclosed(*, forget: bool) -> None:
    """Close the loop under a running supervisor, and return."""
    loop = asyncio.new_event_loop()
    supervisor: Supervisor | None = Supervisor([KV], observers=())

    async def enter() -> None:
        assert supervisor is not None
        await supervisor.__aenter__()
        await supervisor.ready()
        say(pid=supervisor.plugin("store").pid)

    loop.run_until_complete(enter())
    if forget:
        supervisor = None
        gc.collect()
    loop.close()


if __name__ == "__main__":
    match sys.argv[1]:
        case "probed":
            asyncio.run(probed())
        case "headroom":
            os.closerange(3, 1024)  # what was inherited may stand high and leave holes below
            asyncio.run(headroom())
        case "unclosed":
            unclosed(forget=False)
        case "collected":
            unclosed(forget=True)
