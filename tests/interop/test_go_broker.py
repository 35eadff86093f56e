"""The broker with the real go-plugin: either side offers, plain or multiplexed, with or without mTLS, unix and TCP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from betterproto.lib.google.protobuf import Empty
from interop_proto import (
    AdderBase,
    AdderStub,
    CounterKey,
    CounterPut,
    CounterStub,
    CounterValue,
    Item,
    Pair,
    StreamingStub,
)
from kv_proto import GetRequest, KvStub, PutRequest

from supervisor import BrokerError, PluginSpec, Supervisor, current_caller

MakeSpec = Callable[..., PluginSpec]
GoHost = Callable[..., list[dict[str, Any]]]

MODES = {
    "plain": ((), {}),
    "multiplexed": (("-mux",), {"multiplex": True}),
    "mTLS": (("-auto-mtls",), {"auto_mtls": True}),
    "multiplexed mTLS": (("-mux", "-auto-mtls"), {"multiplex": True, "auto_mtls": True}),
}
"""Mode → the Go host's flags and our specification's fields."""

NETWORKS = ("unix", "tcp")

mode = pytest.mark.parametrize(("flags", "fields"), MODES.values(), ids=MODES)
network = pytest.mark.parametrize("network", NETWORKS)


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


class Adder(AdderBase):
    """Adds, and keeps who asked."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def add(self, pair: Pair) -> CounterValue:
        """Return the sum."""
        self.callers.append(current_caller().plugin)
        return CounterValue(value=pair.a + pair.b)


def go_counter(go_plugin: MakeSpec, network: str, **fields: Any) -> PluginSpec:
    """Return the specification of the Go counter; on TCP it is behind a relay, its brokered sockets are where it is."""
    if network == "unix":
        return go_plugin("counter", **fields)
    return go_plugin("relay", "-tcp", "{go}/counter", insecure=True, **fields)


@mode
@network
async def test_go_plugin_calls_our_host(
    go_plugin: MakeSpec, network: str, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """For every sum the plugin dials the adder that it was given an id of; the second time as the first."""
    adder = Adder()
    async with Supervisor([go_counter(go_plugin, network, **fields)], observers=[]) as supervisor:
        plugin, counter = supervisor.plugin("peer"), await supervisor.dispense("peer", CounterStub)
        for number in (1, 2, 3):
            async with plugin.offer(adder) as service_id:
                assert service_id == number
                await counter.put(CounterPut(adder=service_id, key="sum", value=number))
        total = await counter.get(CounterKey(key="sum"))

    assert total.value == 6
    assert adder.callers == ["peer"] * 3


@mode
@network
async def test_our_host_calls_what_a_go_plugin_lends(
    go_plugin: MakeSpec, network: str, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """The id in an answer is dialled, several at a time."""
    async with Supervisor([go_counter(go_plugin, network, **fields)], observers=[]) as supervisor:
        plugin, counter = supervisor.plugin("peer"), await supervisor.dispense("peer", CounterStub)
        ids = [(await counter.lend(Empty())).service_id for _ in range(3)]
        adders = [await plugin.dial(service_id, AdderStub) for service_id in ids]
        sums = [(await adder.add(Pair(a=40, b=number))).value for number, adder in enumerate(adders)]

    assert (ids, sums) == ([1, 2, 3], [40, 41, 42])


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
@network
def test_our_plugin_calls_a_go_host(
    go_host: GoHost, network: str, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """The counter in Python dials what the Go host serves by AcceptAndServe."""
    tcp = ("-tcp",) if network == "tcp" else ()
    steps = go_host("counter", "-calls", "5", *tcp, *flags, plugin="served_counter.py")

    assert [step for step in steps if not step["ok"]] == []
    assert [step["broker_id"] for step in steps if step["step"] == "put"] == [1, 2, 3, 4, 5]
    assert [step["value"] for step in steps if step["step"] == "get"] == [15]
    assert steps[-1]["graceful"]


@mode
@network
def test_go_host_calls_what_our_plugin_lends(
    go_host: GoHost, network: str, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """The Go host dials the ids; for one that nobody offered it gets an error, and without delay if it had to knock."""
    tcp = ("-tcp",) if network == "tcp" else ()
    steps = go_host("lend", *tcp, *flags, plugin="served_counter.py")

    assert [step for step in steps if not step["ok"]] == []
    assert [step["value"] for step in steps if step["step"] == "lend"] == [40, 41, 42]
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


async def test_go_plugin_that_is_not_asked_does_not_multiplex(go_plugin: MakeSpec) -> None:
    """A host inside a plugin inherits the variable of its own host; what it starts must not see it."""
    spec = go_plugin("counter", inherit_env=True, env={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLUGIN_MULTIPLEX_GRPC", "true")
        async with Supervisor([spec], observers=[]) as supervisor:
            counter = await supervisor.dispense("peer", CounterStub)
            async with supervisor.plugin("peer").offer(Adder()) as service_id:
                await counter.put(CounterPut(adder=service_id, key="sum", value=1))


@mode
def test_many_lives_of_our_plugin_under_a_go_host(
    go_host: GoHost, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """Ten lives, one after another, without a failed step."""
    (step,) = go_host("counter", "-loop", "10", *flags, plugin="served_counter.py")

    assert (step["lives"], step["failed_steps"]) == (10, 0)
