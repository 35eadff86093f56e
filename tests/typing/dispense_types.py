"""What a type checker knows of dispense and of the handles; checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from kv_proto import GetRequest, GetResponse, KvStub

from supervisor import ExitReport, Interface, LogRecord, Plugin, State, Supervisor
from supervisor.events import Event

KV = Interface("kv", KvStub, version=1)


async def dispense(supervisor: Supervisor) -> None:
    """Every way to dispense gives the stub's own type, and its calls theirs."""
    assert_type(await supervisor.dispense("store", KvStub), KvStub)
    assert_type(await supervisor.dispense("store", KV), KvStub)
    assert_type(await supervisor.dispense(KV), KvStub)
    assert_type(await supervisor.dispense(KvStub), KvStub)
    kv = await supervisor.dispense(KV, timeout=None)
    assert_type(await kv.get(GetRequest(key="a")), GetResponse)


async def handles(supervisor: Supervisor) -> None:
    """Handles, events and records have types of their own."""
    plugin = supervisor.plugin("store")
    assert_type(plugin, Plugin)
    assert_type(plugin.state, State)
    assert_type(plugin.last_exit, ExitReport | None)
    async for record in plugin.logs():
        assert_type(record, LogRecord)
    async for event in supervisor.subscribe():
        assert_type(event, Event)
