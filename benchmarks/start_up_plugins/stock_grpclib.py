"""A plugin made with grpclib and betterproto as they come; it has nothing but the service."""

import asyncio
import os

from grpclib.server import Server
from kv_proto import GetRequest, GetResponse, KvBase


class Kv(KvBase):
    """One value, in memory."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=b"v" * 100)


async def main() -> None:
    """Serve until killed."""
    server = Server([Kv()])
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], f"plugin{os.getpid()}")  # noqa: PTH118  # imports count
    await server.start(path=path)
    print(f"1|1|unix|{path}|grpc", flush=True)
    await server.wait_closed()


asyncio.run(main())
