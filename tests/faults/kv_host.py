"""A host that runs the KV plugin with a family of children that try to get away, prints who there is, and waits."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

from kv_proto import GetRequest, KvStub

from supervisor import PluginSpec, Supervisor

PLUGIN = str(Path(__file__).parent / "kv_plugin.py")


async def main(*, calling: bool) -> None:
    """Start the plugin and its children, say their process ids, and wait; with a call under way if so told."""
    specs = [PluginSpec(name=name, command=(sys.executable, PLUGIN)) for name in ("store", "other")]
    async with Supervisor(specs, observers=()) as supervisor:
        store = await supervisor.dispense("store", KvStub)
        family = json.loads((await store.get(GetRequest(key="spawn"))).value)
        await supervisor.ready()
        family |= {name: plugin.pid for name, plugin in supervisor.plugins.items()}
        call = asyncio.create_task(store.get(GetRequest(key="hang"))) if calling else None
        if call is not None:
            await store.get(GetRequest(key="hanging:1"))
        print(json.dumps(family), flush=True)  # noqa: T201  # what the test reads
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(calling="calling" in sys.argv))
