"""`interop.Peer` served by stock grpclib: `served_by_grpclib.py FOLDER`; see `peers` for what it says and hears."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpclib.server
from grpc_peer import Details, Peer
from told_calls import say

from supervisor.tls import TlsFiles
from supervisor.transport.tls import load_contexts


async def main(folder: Path) -> None:
    """Serve until told to stop; grpclib has no graceful stop."""
    service = Peer()
    files = TlsFiles(
        certificate=str(folder / "peer.pem"), key=str(folder / "peer.key"), authority=str(folder / "authority.pem")
    )
    servers = [grpclib.server.Server([service], status_details_codec=Details()) for _ in range(3)]
    places = {"unix": str(folder / "all"), "few": str(folder / "all")}
    await servers[0].start(path=places["unix"])
    for name, server, tls in (("tcp", servers[1], None), ("tls", servers[2], load_contexts(files).server)):
        await server.start("127.0.0.1", 0, ssl=tls)
        assert isinstance(server._server, asyncio.Server)
        places[name] = str(server._server.sockets[0].getsockname()[1])
    say(places)
    while await asyncio.to_thread(sys.stdin.readline):
        pass
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
