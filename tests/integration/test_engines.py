"""A supervised plugin, whichever engine the host speaks with."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub

from supervisor import ConfigurationError, PluginSpec, Supervisor
from supervisor.terms import Engine
from supervisor.transport.engine.channel import EngineChannel

PLUGIN = Path(__file__).parent.parent / "faults" / "kv_plugin.py"

pytestmark = pytest.mark.usefixtures("nothing_left", "no_task_left")


@pytest.mark.parametrize("engine", ["lean", "grpclib"])
async def test_calls_go_through_the_engine_of_the_specification(engine: Engine) -> None:
    """One at a time and many at once."""
    spec = PluginSpec(name="store", command=(sys.executable, str(PLUGIN)), engine=engine)
    async with Supervisor([spec], observers=()) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        assert (await kv.get(GetRequest(key="a"))).value == b""
        replies = await asyncio.gather(*(kv.get(GetRequest(key="a")) for _ in range(200)))
        assert {reply.value for reply in replies} == {b""}
        instance = supervisor.plugin("store")._keeper.instance
        assert instance is not None
        assert isinstance(instance.channel, EngineChannel) == (engine == "lean")
        assert instance.in_flight == 0


def test_an_engine_that_is_none_is_refused() -> None:
    """When the specification is made, as for its other fields."""
    with pytest.raises(ConfigurationError, match="no engine is named 'fast'"):
        PluginSpec(name="store", command=("a",), engine="fast")  # type: ignore[arg-type] # the mistake
