"""A host in a terminal: its plugin asks there for a name and a password. What it learns it prints on its stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

from kv_proto import GetRequest, KvStub

from supervisor import PluginSpec, Supervisor
from supervisor.spec import Stdin

PLUGIN = Path(__file__).parent / "asking_plugin.py"


async def main() -> None:
    """Ask, and say what was answered."""
    spec = PluginSpec(name="asker", command=(sys.executable, str(PLUGIN)), stdin=Stdin.INHERIT)
    async with Supervisor([spec], observers=()) as supervisor:
        asker = await supervisor.dispense("asker", KvStub)
        tell(pid=supervisor.plugin("asker").pid)
        tell(tty=json.loads((await asker.get(GetRequest(key="tty"))).value))
        for key in ("name", "password"):
            tell(asking=key)
            tell(answer=(await asker.get(GetRequest(key=key))).value.decode())
        # Ctrl-C reaches both: the plugin leaves it to the host, which ends by it.
        tell(waiting=True)
        await asyncio.Event().wait()


def tell(**what: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(what), flush=True)  # noqa: T201  # what the test reads


if __name__ == "__main__":
    asyncio.run(main())
