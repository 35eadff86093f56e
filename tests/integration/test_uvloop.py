"""Hosts and plugins on uvloop: the same lives, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import uvloop
from contract_links import connect_at
from errands import Greeter, run_errand
from watching import Log, until

from supervisor import Backoff, PluginSpec, RestartPolicy, State, Supervisor
from supervisor.address import TcpAddress, UnixAddress
from supervisor.outcome import ExitReason
from supervisor.testing.transport_contract import TRANSPORT_CHECKS, Check

pytestmark = pytest.mark.usefixtures("nothing_left", "no_orphan_left")

PROGRAM = Path(__file__).parent.parent / "kit" / "errand_plugin.py"
AGAIN = RestartPolicy(backoff=Backoff(initial=0, ceiling=0))

Way = Literal["plain", "multiplexed", "mTLS", "multiplexed mTLS"]


@pytest.fixture(scope="module", autouse=True)
def libuv() -> None:
    """Make a loop once: libuv opens a pipe for signals then, which the process keeps."""
    uvloop.new_event_loop().close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop of uvloop's, which tells of what nobody handled."""
    told: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with asyncio.timeout(60):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert not told


@pytest.mark.parametrize("way", ["plain", "multiplexed", "mTLS", "multiplexed mTLS"])
@pytest.mark.parametrize("plugins_loop", ["asyncio", "uvloop"])
def test_a_plugin_lives_dies_and_lives_again(way: Way, plugins_loop: str) -> None:
    """Calls both ways, SIGKILL, the next life and an orderly stop."""
    spec = PluginSpec(
        name="errands",
        command=(sys.executable, str(PROGRAM)),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "ERRANDS_LOOP": plugins_loop},
        multiplex="multiplexed" in way,
        auto_mtls="mTLS" in way,
        restart=AGAIN,
    )

    async def main() -> None:
        log = Log()
        async with Supervisor([spec], observers=[log], services=[Greeter(str.upper)]) as supervisor:
            plugin = supervisor.plugin("errands")
            channel = await supervisor.dispense("errands", lambda channel: channel)
            assert await run_errand(channel, "Host", 1) == "1"
            os.kill(plugin.pid or 0, signal.SIGKILL)
            await until(lambda: plugin.state is State.READY and plugin.generation == 2, supervisor)
            replies = await asyncio.gather(*(run_errand(channel, "Host", number) for number in range(50)))
            assert replies == [str(number) for number in range(50)]
        log.assert_each_launch_ended_once()
        assert plugin.last_exit is not None
        assert plugin.last_exit.reason is ExitReason.STOPPED
        assert plugin.last_exit.status.code == 0

    run(main)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: str(check.__name__))
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("network", ["unix", "tcp"])
def test_transport_keeps_the_contract(network: str, secured: bool, check: Check, tmp_path: Path) -> None:
    """The check passes between two of the lean engine."""
    address = UnixAddress(str(tmp_path / "s")) if network == "unix" else TcpAddress("127.0.0.1", 0)
    run(lambda: check(connect_at(address, "lean", "lean", secured=secured)))
