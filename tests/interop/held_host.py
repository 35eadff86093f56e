"""A host that runs the plugin that its arguments are, prints its pid, and waits to be killed."""

import asyncio
import sys

import peers
from kv_proto import KvStub

from supervisor import PluginSpec, Supervisor


async def main() -> None:
    """Supervise."""
    spec = PluginSpec(name="peer", command=tuple(sys.argv[1:]), cookie=peers.COOKIE)
    async with Supervisor([spec], observers=()) as supervisor:
        await supervisor.dispense("peer", KvStub)
        print(supervisor.plugin("peer").pid, flush=True)  # noqa: T201  # what the test reads
        await asyncio.Event().wait()


asyncio.run(main())
