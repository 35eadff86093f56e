"""Rows 27 to 29 and 35 of the fault table: the stop ladder, and what does not want to be stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest
from kv_proto import GetRequest, KvStub
from watching import Log, freeze, until, until_state
from witness import Witness

from supervisor import (
    PluginDrainingError,
    PluginSpec,
    PluginStoppedError,
    PluginUnavailableError,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.events import InstanceExited, InstanceLaunched, StopRung
from supervisor.outcome import ExitReason

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

SERVING = ("listen", "{dir}/s", "handshake", "{dir}/s", "accept", "greet")
"""A plugin that is ready, and answers nothing."""

STUBBORN = ("ignore", "15", "ignore", "2", "ignore", "1")

BRISK = StopPolicy(drain=0.2, shutdown=0.15, terminate=0.25, kill=2)


def rungs(log: Log) -> list[str]:
    """Return the rungs that were climbed, in order."""
    return [event.rung for event in log.of(StopRung)]


async def timed_stop(supervisor: Supervisor) -> float:
    """Stop the only plugin and return the seconds that it took."""
    (plugin,) = supervisor.plugins.values()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20):
        await plugin.stop()
    assert plugin.state is State.STOPPED
    return loop.time() - began


async def said(supervisor: Supervisor, name: str = "evil") -> str:
    """Return the plugin's next line; bounded."""
    with supervisor.plugin(name).logs() as records:
        async with asyncio.timeout(20):
            return (await anext(records)).event


# --- rows 27 and 28 ----------------------------------------------------------------------------------------------------


async def test_row_27_ladder_is_climbed_rung_by_rung(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """With a call in flight that is never answered, drain, shutdown, terminate and kill come in order, each in its grace."""
    async with supervise(evil(*SERVING, *STUBBORN, "hang", health=None, stop=BRISK)) as supervisor:
        kv = await supervisor.dispense(KvStub)
        call = asyncio.create_task(kv.get(GetRequest(key="a")))
        while not supervisor.plugin("evil").in_flight:  # the call is made on this loop
            await asyncio.sleep(0)
        stop = asyncio.create_task(timed_stop(supervisor))
        await until_state(State.DRAINING, supervisor)
        with pytest.raises(PluginDrainingError):
            await kv.get(GetRequest(key="b"))
        assert await stop <= BRISK.total - BRISK.kill + 1
        with pytest.raises(PluginUnavailableError):
            await call
    assert rungs(log) == ["drain", "shutdown", "terminate", "kill"]
    at = [event.at for event in log.of(StopRung)]
    for began, ended, grace in zip(at, at[1:], (BRISK.drain, BRISK.shutdown, BRISK.terminate), strict=False):
        assert grace - 0.01 <= ended - began <= grace + 0.5
    (ended_event,) = log.of(InstanceExited)
    assert ended_event.report.reason is ExitReason.STOPPED
    assert ended_event.report.status.signal == signal.SIGKILL
    assert ended_event.at - at[-1] <= 0.5


async def test_row_27_polite_signals_are_ignored(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A plugin that ignores SIGTERM, SIGINT and SIGHUP is killed with its group, within the graces and a second."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        await supervisor.ready()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.killpg(supervisor.plugin("evil").pid or 0, number)
        assert await timed_stop(supervisor) <= BRISK.shutdown + BRISK.terminate + 1
    (ended,) = log.of(InstanceExited)
    assert (ended.generation, ended.report.reason) == (1, ExitReason.STOPPED)
    assert ended.report.status.signal == signal.SIGKILL
    assert rungs(log) == ["drain", "shutdown", "terminate", "kill"]


async def test_row_27_ladder_ends_where_the_plugin_does(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A plugin that takes the Shutdown call is not signalled, and exits with 0."""
    async with supervise(kv()) as supervisor:
        await supervisor.ready()
        assert await timed_stop(supervisor) <= 2 + 1
    assert rungs(log) == ["drain", "shutdown"]
    (ended,) = log.of(InstanceExited)
    assert (ended.report.reason, ended.report.status.code) == (ExitReason.STOPPED, 0)


async def test_row_27_sigterm_is_enough_for_most(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A plugin that does not know the Shutdown call ends by SIGTERM, and that is no failure."""
    async with supervise(evil(*SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        await supervisor.ready()
        assert await timed_stop(supervisor) <= BRISK.shutdown + 1
    assert rungs(log) == ["drain", "shutdown", "terminate"]
    (ended,) = log.of(InstanceExited)
    assert ended.report.status.signal == signal.SIGTERM
    assert not ended.report.failed


async def test_row_27_stubborn_before_the_handshake(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A stop during the start needs no Shutdown call: terminate, kill, and no failure."""
    async with supervise(evil(*STUBBORN, "error", "up", "hang", stop=BRISK)) as supervisor:
        assert await said(supervisor) == "up"
        assert await timed_stop(supervisor) <= BRISK.terminate + 1
    assert rungs(log) == ["terminate", "kill"]
    (ended,) = log.of(InstanceExited)
    assert ended.report.reason is ExitReason.STOPPED


async def test_row_28_stopped_plugin_is_stopped(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A plugin under SIGSTOP, which answers nothing and takes no SIGTERM, is killed within the graces and a second."""
    async with supervise(kv(health=None, stop=BRISK)) as supervisor:
        await supervisor.ready()
        freeze(supervisor.plugin("store").pid or 0)
        assert await timed_stop(supervisor) <= BRISK.shutdown + BRISK.terminate + 1
    assert rungs(log) == ["drain", "shutdown", "terminate", "kill"]
    (ended,) = log.of(InstanceExited)
    assert ended.report.status.signal == signal.SIGKILL


async def test_row_28_restart_of_a_stopped_plugin(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A restart of a plugin under SIGSTOP is as bounded, and the next life answers."""
    async with supervise(kv(health=None, stop=BRISK)) as supervisor:
        stub = await supervisor.dispense(KvStub)
        freeze(supervisor.plugin("store").pid or 0)
        async with asyncio.timeout(20):
            await supervisor.plugin("store").restart()
        assert int((await stub.get(GetRequest(key="pid"))).value) == supervisor.plugin("store").pid
    first, second = log.of(InstanceExited)
    began = next(event.at for event in log.of(StopRung))
    assert first.at - began <= BRISK.shutdown + BRISK.terminate + 1
    assert (first.report.failed, second.generation) == (False, 2)


# --- row 29 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_row_29_pipes_held_by_a_grandchild(
    supervise: Supervise, evil: MakeSpec, log: Log, witness: Witness, how: str
) -> None:
    """A grandchild that nobody finds and that holds all pipes delays the end by 0.3 s at most: best of three.

    It watches its standard input, so it ends when the host lets go of the plugin.
    """
    late = []
    spec = evil(*SERVING, "escape", "hang", health=None, stop=StopPolicy(shutdown=0.05))
    async with supervise(spec) as supervisor:
        plugin = supervisor.plugin("evil")
        for life in (1, 2, 3):
            next_line = asyncio.create_task(said(supervisor))
            await asyncio.gather(next_line, plugin.start())
            witness.watch(int(next_line.result()))
            if how == "stop":
                await plugin.stop()
            else:
                os.kill(plugin.pid or 0, signal.SIGKILL)
                await until_ended(log, life, supervisor)
            late.append(log.of(InstanceExited)[-1].at - log.moment(State.EXITED, generation=life))
            await witness.last_death(within=1)
    assert min(late) <= 0.3


async def until_ended(log: Log, life: int, supervisor: Supervisor) -> None:
    """Wait for the terminal event of a life."""
    await until(lambda: len(log.of(InstanceExited)) == life, supervisor)


# --- row 35 ------------------------------------------------------------------------------------------------------------


async def test_row_35_concurrent_stops_are_one(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Stops at the same time, in the middle of the kill and after the end all return, for one life and one ladder."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        plugin = supervisor.plugin("evil")
        await supervisor.ready()
        stops = [asyncio.create_task(plugin.stop()) for _ in range(5)]
        await until(lambda: "kill" in rungs(log), supervisor)
        assert plugin.pid is not None
        async with asyncio.timeout(5):
            await asyncio.gather(*stops, plugin.stop())
            await plugin.stop()
        assert plugin.state is State.STOPPED
    assert rungs(log) == ["drain", "shutdown", "terminate", "kill"]
    assert len(log.of(InstanceExited)) == 1


async def test_row_35_stop_right_after_a_crash(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A stop of a plugin that has just died, before anybody knows, is a stop: it stays at rest."""
    async with supervise(kv()) as supervisor:
        await supervisor.ready()
        os.kill(supervisor.plugin("store").pid or 0, signal.SIGKILL)
        await timed_stop(supervisor)
    assert len(log.of(InstanceLaunched)) == len(log.of(InstanceExited)) == 1


async def test_row_35_restart_overtakes_a_stop(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A restart in the middle of a stop gives a new life; who waited for the stop is told when the old one is gone."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        plugin = supervisor.plugin("evil")
        await supervisor.ready()
        stop = asyncio.create_task(plugin.stop())
        await until(lambda: "terminate" in rungs(log), supervisor)
        async with asyncio.timeout(10):
            await plugin.restart()
            assert (plugin.state, plugin.generation) == (State.READY, 2)
            await stop
    assert len(log.of(InstanceExited)) == 2


async def test_row_35_stop_overtakes_a_restart(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A stop in the middle of a restart wins, and who waited for the restart is told."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        plugin = supervisor.plugin("evil")
        await supervisor.ready()
        restart = asyncio.create_task(plugin.restart())
        await until(lambda: "terminate" in rungs(log), supervisor)
        async with asyncio.timeout(10):
            await plugin.stop()
            with pytest.raises(PluginUnavailableError):
                await restart
        assert plugin.state is State.STOPPED
    assert len(log.of(InstanceLaunched)) == len(log.of(InstanceExited)) == 1


async def test_row_35_leaving_while_a_stop_is_under_way(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Leaving the supervisor in the middle of a stop waits for that stop, and stops nothing twice."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        await supervisor.ready()
        stop = asyncio.create_task(supervisor.plugin("evil").stop())
        await until(lambda: "shutdown" in rungs(log), supervisor)
    async with asyncio.timeout(1):
        await stop
    assert rungs(log) == ["drain", "shutdown", "terminate", "kill"]


async def test_row_35_restart_while_leaving_is_too_late(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """An order to start or restart that comes while the supervisor is being left, or later, is refused at once."""
    async with supervise(evil(*STUBBORN, *SERVING, "hang", health=None, stop=BRISK)) as supervisor:
        plugin = supervisor.plugin("evil")
        await supervisor.ready()
        leave = asyncio.create_task(supervisor.aclose())
        await until(lambda: "shutdown" in rungs(log), supervisor)
        async with asyncio.timeout(5):
            for order in (plugin.restart, plugin.start):
                with pytest.raises(PluginUnavailableError):
                    await order()
            await leave
            for order in (plugin.restart, plugin.start):
                with pytest.raises(PluginStoppedError, match="supervisor has ended"):
                    await order()
            await plugin.stop()
    assert len(log.of(InstanceLaunched)) == 1
