"""A runner may put a plugin where addresses mean something else: every address crosses through it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import errands
import pytest
from errands import Greeter, GreeterStub, run_errand
from translating import ForwardingRunner, MountingRunner

from supervisor import PluginSpec, Supervisor
from supervisor.abc import Runner

PROGRAM = Path(errands.__file__).with_name("errand_plugin.py")


async def errands_in_both_directions(runner: Runner, network: str, *, multiplex: bool = False) -> list[str]:
    """Call a plugin, have it call the host's service, one passed in a call, and call one that it passes."""
    spec = PluginSpec(
        name="errands",
        command=(sys.executable, str(PROGRAM)),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "ERRANDS_NETWORK": network},
        auto_mtls=network == "tcp",
        multiplex=multiplex,
    )
    host = [Greeter(lambda name: f"host greets {name}")]
    async with Supervisor([spec], observers=[], runner=lambda: runner, services=host) as supervisor:
        plugin = supervisor.plugin("errands")
        channel = await supervisor.dispense("errands", lambda channel: channel)
        said = [await run_errand(channel, "Host", 1)]
        async with plugin.offer(Greeter(lambda name: f"offer greets {name}")) as service_id:
            said.append(await run_errand(channel, "Greet", service_id))
        lent = int(await run_errand(channel, "Lend", 2))
        async with plugin.dial(lent, GreeterStub) as greeter:
            said.append(await greeter.greet("plugin greets"))
    return said


ALL = ["host greets 1", "offer greets plugin", "plugin greets 2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace takes root")
async def test_directory_that_is_mounted_elsewhere(tmp_path: Path) -> None:
    """A plugin whose directory has another path, and who does not see the host's, is reached, and reaches the host."""
    inside = tmp_path / "i"
    inside.mkdir()
    runner = MountingRunner(inside)
    assert await errands_in_both_directions(runner, "unix") == ALL

    assert [direction for direction, _, _ in runner.translated] == ["to host", "to plugin", "to plugin", "to host"]
    assert not any(inside.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace takes root")
async def test_multiplexed_there_is_one_address(tmp_path: Path) -> None:
    """All services travel on the connection to it."""
    inside = tmp_path / "i"
    inside.mkdir()
    runner = MountingRunner(inside)
    assert await errands_in_both_directions(runner, "unix", multiplex=True) == ALL

    assert [direction for direction, _, _ in runner.translated] == ["to host"]


async def test_ports_that_are_forwarded() -> None:
    """Each port is known to the other side by another number; TLS goes through."""
    runner = ForwardingRunner()
    assert await errands_in_both_directions(runner, "tcp") == ALL

    assert runner.connections == {"to plugin": 2, "to host": 2}
