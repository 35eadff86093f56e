"""The raw protocol with this library's codec on a unix socket."""

from __future__ import annotations

import asyncio

from benchmarks.contract import GetRequest, GetResponse, Kv
from benchmarks.raw_protocol import RawServer
from benchmarks.servers.until_eof import run_server, say_ready_and_wait
from supervisor.transport.codec import MessageCodec

_CODEC = MessageCodec()
_KV = Kv()


async def answer(data: bytes) -> bytes:
    """Answer one Get."""
    return _CODEC.encode(await _KV.get(_CODEC.decode(data, GetRequest)), GetResponse)


async def main(path: str) -> None:
    """Serve until the client is gone."""
    server = await asyncio.get_running_loop().create_unix_server(lambda: RawServer(answer), path)
    await say_ready_and_wait()
    server.close()


if __name__ == "__main__":
    run_server(main)
