"""What a type checker knows of offers and dials; read by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from kv_proto import KvBase, KvStub

from supervisor import ByteReader, ByteSource, ByteWriter, Plugin, Supervisor
from supervisor.sdk import current


class Kv(KvBase):
    """A servicer."""


async def host(plugin: Plugin) -> None:
    """Entered or awaited, an offer is an id and a dial is a stub."""
    assert_type(await plugin.offer(Kv(), ByteSource([b""])), int)
    async with plugin.offer(Kv()) as service_id:
        assert_type(service_id, int)
    assert_type(await plugin.dial(1, KvStub), KvStub)
    async with plugin.dial(1, ByteReader) as reader:
        assert_type(reader, ByteReader)
        async for chunk in reader:
            assert_type(chunk, bytes)


async def plugin() -> None:
    """The same on the other side, and the host's own services."""
    assert_type(await current().host(KvStub), KvStub)
    assert_type(await current().offer(Kv()), int)
    async with current().dial(1, ByteWriter) as writer:
        assert_type(await writer.write([b""]), int)


def services() -> None:
    """For all plugins, or by name."""
    Supervisor(services=[Kv()])
    Supervisor(services={"store": [Kv()]})
