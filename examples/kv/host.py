"""The host: a store in another process, killed under our hands, and the same stub working again."""

import asyncio
import os
import signal
from pathlib import Path

from supervisor import Interface, Supervisor

from kv_proto import GetRequest, KvStub, PutRequest

KV = Interface("kv", KvStub, version=1)


async def main() -> None:
    """Launch, dispense, call, kill, call again."""
    async with Supervisor.from_config(Path(__file__).with_name("plugins.toml")) as supervisor:
        kv = await supervisor.dispense(KV)
        await kv.put(PutRequest(key="greeting", value=b"hello from another process"))
        print("value:", (await kv.get(GetRequest(key="greeting"))).value.decode())

        store = supervisor.plugin("store")
        print("now killing:", store)
        os.kill(store.pid or 0, signal.SIGKILL)

        # The same stub: the call waits for the plugin's next life.
        print("value:", (await kv.get(GetRequest(key="greeting"))).value.decode())
        print("it is back:", store)
        print("it had:", store.last_exit)


if __name__ == "__main__":
    asyncio.run(main())
