"""A host that starts a plugin which is to survive it, prints its token, and leaves as it is told on standard input.

`python first_host.py COMMAND ...`; `detach` lets go of it in order, and anything else ends the host on the spot.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

from kv_proto import KvStub, PutRequest

from supervisor import PluginSpec, Supervisor


async def main(command: list[str]) -> None:
    """Start the plugin, give it something to remember, and leave."""
    spec = PluginSpec(name="store", command=tuple(command), survive_host=True)
    async with Supervisor([spec], observers=()) as supervisor:
        store = await supervisor.dispense("store", KvStub)
        await store.put(PutRequest(key="greeting", value=b"from the first host"))
        print(supervisor.plugin("store").reattach_token().to_json(), flush=True)  # noqa: T201  # what the test reads
        word = await asyncio.to_thread(sys.stdin.readline)
        if word != "detach\n":
            os._exit(1)
        await supervisor.plugin("store").detach()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
