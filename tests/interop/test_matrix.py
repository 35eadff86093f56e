"""Every cell of the matrix in docs/interop.md, run: see cells.py for what they are and matrix.py for who writes it down."""

from __future__ import annotations

from pathlib import Path

import peers
import pytest
from adders import Adder
from betterproto.lib.google.protobuf import Empty
from cells import CELLS, Cell
from interop_proto import AdderStub, CounterKey, CounterPut, CounterStub, Pair
from kv_proto import GetRequest, KvStub, PutRequest

from supervisor import PluginSpec, Supervisor
from supervisor.events import HandshakeDone

VALUE = bytes(range(256)) * 2048
"""Many TLS records and more than one window, of HTTP/2 and of yamux."""


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_cell(go: Path, cell: Cell) -> None:
    """Values go both ways; with a broker each side calls what the other one offers, several times."""
    service = "kv" if cell.broker == "off" else "counter"
    if cell.host == "go":
        call_from_go(go, cell, service)
    else:
        await call_from_python(go, cell, service)


# --- our host ------------------------------------------------------------------------------------------------------


async def call_from_python(go: Path, cell: Cell, service: str) -> None:
    """Run a plugin under our host."""
    async with Supervisor([specify(go, cell, service)], observers=[]) as supervisor:
        with supervisor.subscribe() as events:
            if service == "kv":
                await keep_a_value(supervisor)
            else:
                await call_back(supervisor)
                await call_what_is_lent(supervisor)
        shaken = [event async for event in events if isinstance(event, HandshakeDone)]

    assert [event.address.startswith("127.0.0.1:") for event in shaken] == [cell.network == "tcp"]


def specify(go: Path, cell: Cell, service: str) -> PluginSpec:
    """Return the plugin; a Go one listens on TCP on Windows only, elsewhere it is behind a relay."""
    if cell.plugin == "python":
        return peers.python_plugin(f"served_{service}.py", env={"INTEROP_NETWORK": cell.network}, **cell.fields)
    if cell.network == "unix":
        return peers.go_plugin(go, service, **cell.fields)
    return peers.go_plugin(go, "relay", "-tcp", f"{{go}}/{service}", **cell.fields)


async def keep_a_value(supervisor: Supervisor) -> None:
    """Put a value and get it back."""
    kv = await supervisor.dispense("peer", KvStub)
    await kv.put(PutRequest(key="key", value=VALUE))
    assert (await kv.get(GetRequest(key="key"))).value == VALUE


async def call_back(supervisor: Supervisor) -> None:
    """For every sum the plugin dials the adder that it was given an id of; the second time as the first."""
    adder = Adder()
    plugin, counter = supervisor.plugin("peer"), await supervisor.dispense("peer", CounterStub)
    for number in (1, 2, 3):
        async with plugin.offer(adder) as service_id:
            assert service_id == number
            await counter.put(CounterPut(adder=service_id, key="sum", value=number))

    assert (await counter.get(CounterKey(key="sum"))).value == 6
    assert adder.callers == ["peer"] * 3


async def call_what_is_lent(supervisor: Supervisor) -> None:
    """The id in an answer is dialled, several at a time."""
    plugin, counter = supervisor.plugin("peer"), await supervisor.dispense("peer", CounterStub)
    ids = [(await counter.lend(Empty())).service_id for _ in range(3)]
    adders = [await plugin.dial(service_id, AdderStub) for service_id in ids]
    sums = [(await adder.add(Pair(a=40, b=number))).value for number, adder in enumerate(adders)]

    assert (ids, sums) == ([1, 2, 3], [40, 41, 42])


# --- the Go host ---------------------------------------------------------------------------------------------------


def call_from_go(go: Path, cell: Cell, service: str) -> None:
    """Run a plugin under the Go host."""
    if cell.plugin == "python":
        command = peers.python_command(f"served_{service}.py")
    elif cell.network == "unix":
        command = peers.go_command(go, service)
    else:
        command = peers.go_command(go, "relay", "-tcp", f"{{go}}/{service}")
    for exercise in {"kv": ["kv"], "counter": ["counter", "lend"]}[service]:
        steps = peers.go_host(go, exercise, *cell.flags, "-size", str(len(VALUE)), command=command)

        assert [step for step in steps if not step["ok"]] == []
        assert steps[0]["network"] == cell.network
        assert (steps[-1]["step"], steps[-1]["graceful"], steps[-1]["alive"]) == ("kill", True, False)
        if cell.plugin == "python":  # go-plugin's own leave it when they are multiplexed
            assert not steps[-1].get("socket_left")
        said = {step["step"]: step for step in steps}
        if exercise == "kv":
            assert said["get"]["same"]
        elif exercise == "counter":
            assert [step["broker_id"] for step in steps if step["step"] == "put"] == [1, 2, 3]
            assert said["get"]["value"] == 6
        else:
            assert [step["value"] for step in steps if step["step"] == "lend"] == [40, 41, 42]
