"""A plugin made with grpcio's asyncio interface and generated code of google.protobuf's; it has nothing but the service."""

import asyncio
import os
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own
import kv_pb2  # type: ignore[import-not-found]  # generated for the run
import kv_pb2_grpc  # type: ignore[import-not-found]  # as above


class Kv(kv_pb2_grpc.KVServicer):  # type: ignore[misc]  # generated for the run
    """One value, in memory."""

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  # grpcio's signature
        return kv_pb2.GetResponse(value=b"v" * 100)


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    kv_pb2_grpc.add_KVServicer_to_server(Kv(), server)
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], f"plugin{os.getpid()}")  # noqa: PTH118  # imports count
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc", flush=True)
    await server.wait_for_termination()


asyncio.run(main())
