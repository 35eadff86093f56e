"""The host, in Python, for a plugin that is built with hashicorp/go-plugin."""

import asyncio
from pathlib import Path

from supervisor import Supervisor

from kv_proto import GetRequest, KvStub, PutRequest


async def main() -> None:
    """A plugin in Go is called as any other."""
    async with Supervisor.from_config(Path(__file__).with_name("plugins.toml")) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        await kv.put(PutRequest(key="greeting", value=b"hello from Python"))
        print("value:", (await kv.get(GetRequest(key="greeting"))).value.decode())


if __name__ == "__main__":
    asyncio.run(main())
