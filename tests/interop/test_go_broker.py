"""The broker with the real go-plugin where it is strained; that it works at all is in test_matrix.py."""

from __future__ import annotations

import time
from typing import Any

import pytest
from betterproto.lib.google.protobuf import Empty
from interop_proto import AdderStub, CounterStub, Item, Pair, StreamingStub
from kv_proto import GetRequest, KvStub, PutRequest
from peers import GoHost, MakeSpec

from supervisor import BrokerError, Supervisor

MODES = {
    "plain": ((), {}),
    "multiplexed": (("-mux",), {"multiplex": True}),
    "mTLS": (("-auto-mtls",), {"auto_mtls": True}),
    "multiplexed mTLS": (("-mux", "-auto-mtls"), {"multiplex": True, "auto_mtls": True}),
}
"""Mode → the Go host's flags and our specification's fields."""

mode = pytest.mark.parametrize(("flags", "fields"), MODES.values(), ids=MODES)


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@mode
async def test_id_that_a_go_plugin_never_offered(
    go_plugin: MakeSpec, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """An error after five seconds that names the id, and everything goes on."""
    async with Supervisor([go_plugin("counter", **fields)], observers=[]) as supervisor:
        plugin, counter = supervisor.plugin("peer"), await supervisor.dispense("peer", CounterStub)
        begun = time.monotonic()
        with pytest.raises(BrokerError, match="timeout waiting for") as caught:
            await plugin.dial(4711, AdderStub)
        assert 4.9 < time.monotonic() - begun < 8
        offer = await counter.lend(Empty())
        async with plugin.dial(offer.service_id, AdderStub) as adder:
            assert (await adder.add(Pair(a=1, b=2))).value == 3

    assert (caught.value.plugin, caught.value.service_id) == ("peer", 4711)


@mode
def test_id_that_our_plugin_never_offered(go_host: GoHost, flags: tuple[str, ...], fields: dict[str, Any]) -> None:
    """The Go host gets an error, and without delay if it had to knock."""
    steps = go_host("nobody", *flags, plugin="served_counter.py")

    assert [step for step in steps if not step["ok"]] == []
    (nobody,) = (step for step in steps if step["step"] == "dial nobody")
    if "-mux" in flags:
        assert "failed to knock for id 4711: no listener for id 4711" in nobody["text"]
    else:
        assert nobody["text"] == "timeout waiting for connection info"


@pytest.mark.parametrize("auto_mtls", [False, True])
async def test_large_messages_of_a_multiplexed_go_plugin(go_plugin: MakeSpec, auto_mtls: bool) -> None:
    """Many times yamux's window, each way, and calls of every shape at once beside it."""
    spec = go_plugin("kv", multiplex=True, auto_mtls=auto_mtls)
    value = bytes(range(256)) * 12_000
    async with Supervisor([spec], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        for number in range(3):
            await kv.put(PutRequest(key=str(number), value=value))
            assert (await kv.get(GetRequest(key=str(number)))).value == value


@pytest.mark.parametrize("auto_mtls", [False, True])
def test_large_messages_of_our_multiplexed_plugin(go_host: GoHost, auto_mtls: bool) -> None:
    """The same the other way round; Go counts the window, too, and ends the session when it is exceeded."""
    tls = ("-auto-mtls",) if auto_mtls else ()
    steps = go_host("kv", "-mux", *tls, "-size", "6000000", plugin="served_kv.py")

    assert [step for step in steps if not step["ok"]] == []


async def test_streams_of_a_multiplexed_go_plugin(go_plugin: MakeSpec) -> None:
    """A bidirectional call echoes what it is sent."""

    async def items() -> Any:
        for number in range(100):
            yield Item(number=number, payload=bytes(20_000))

    async with Supervisor([go_plugin("streaming", multiplex=True)], observers=[]) as supervisor:
        streaming = await supervisor.dispense("peer", StreamingStub)
        echoed = [item.number async for item in streaming.echo(items())]

    assert echoed == list(range(100))


async def test_go_plugin_without_a_broker(go_plugin: MakeSpec) -> None:
    """It is called as any other; offering it something fails with the reason."""
    spec = go_plugin("evil", "without", "GRPCBroker")
    async with Supervisor([spec], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"))
        with pytest.raises(BrokerError, match=r"does not serve plugin\.GRPCBroker"):
            await supervisor.plugin("peer").dial(1, AdderStub)
