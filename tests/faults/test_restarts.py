"""Rows 19, 21, 22, 24 and 25 of the fault table: crash loops, orders that overtake them, clocks, and stopping many."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest
from kv_proto import GetRequest, KvStub
from watching import Log, until, until_state

from supervisor import (
    Backoff,
    HealthProbe,
    PluginFailedError,
    PluginSpec,
    PluginUnavailableError,
    Restart,
    RestartIntensity,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.events import Event, InstanceExited, InstanceLaunched, PluginGaveUp, RestartScheduled, StateChanged
from supervisor.outcome import ExitReason

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

AT_ONCE = Backoff(initial=0, ceiling=0)
QUICK = StopPolicy(drain=0, shutdown=0.05)
LATER = RestartPolicy(
    restart=Restart.PERMANENT, backoff=Backoff(initial=20, factor=1, ceiling=20), intensity=RestartIntensity(limit=3)
)
"""The second restart comes in half a minute at the soonest: longer than any test takes."""


# --- row 19 ------------------------------------------------------------------------------------------------------------


async def test_row_19_crash_loop_ends_in_failed(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """A plugin that exits at once is restarted with growing pauses, given up on at the limit, and costs next to no CPU."""
    policy = RestartPolicy(
        restart=Restart.PERMANENT,
        intensity=RestartIntensity(limit=5, period=60),
        backoff=Backoff(initial=0.2, factor=2, ceiling=30, jitter=0.5),
    )
    async with supervise(evil("error", "cannot work", "exit", "9", restart=policy)) as supervisor:
        wall, cpu = time.monotonic(), time.process_time()
        await until_state(State.FAILED, supervisor)
        spent = (time.process_time() - cpu) / (time.monotonic() - wall)
        with pytest.raises(PluginFailedError) as caught:
            await supervisor.dispense(KvStub)
    launches = log.of(InstanceLaunched)
    assert len(launches) == 6
    assert launches[-1].at - launches[0].at < 60
    for scheduled, full in zip(log.of(RestartScheduled), (0, 0.2, 0.4, 0.8, 1.6), strict=True):
        assert full / 2 <= scheduled.delay <= full
    for scheduled, next_launch in zip(log.of(RestartScheduled), launches[1:], strict=True):
        assert next_launch.at - scheduled.at >= scheduled.delay - 0.001
    (gave_up,) = log.of(PluginGaveUp)
    assert "cannot work" in gave_up.cause
    assert gave_up.report.status.code == 9
    assert caught.value.report is gave_up.report
    assert spent < 0.05


# --- row 21 ------------------------------------------------------------------------------------------------------------


async def in_backoff(supervisor: Supervisor) -> None:
    """Wait until the plugin's second restart is far away."""
    (plugin,) = supervisor.plugins.values()
    await until(lambda: plugin.restarts == 2 and plugin.state is State.BACKOFF, supervisor)


async def test_row_21_stop_during_backoff(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """stop() takes effect within 100 ms while the supervisor waits to restart, and nothing comes back to life."""
    async with supervise(evil("exit", "1", restart=LATER)) as supervisor:
        plugin = supervisor.plugin("evil")
        await in_backoff(supervisor)
        began = time.monotonic()
        await plugin.stop()
        assert time.monotonic() - began <= 0.1
        assert plugin.state is State.STOPPED
        await plugin.stop()
    assert len(log.of(InstanceLaunched)) == 2


async def test_row_21_restart_during_backoff(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """restart() does not wait for the pause: the next process is there within 100 ms, at the best of three."""
    async with supervise(evil("exit", "1", restart=LATER)) as supervisor:
        keeper = supervisor._running.find("evil")
        await in_backoff(supervisor)
        took = []
        for launches in (3, 4, 5):
            began = time.monotonic()
            keeper.order_restart()
            await until(lambda want=launches: len(log.of(InstanceLaunched)) == want, supervisor)  # type: ignore[misc]
            took.append(log.of(InstanceLaunched)[-1].at - began)
            await until(lambda: keeper.state.at_rest or keeper.state is State.BACKOFF, supervisor)
        assert min(took) <= 0.1


async def test_row_21_leaving_during_backoff(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Leaving the supervisor does not wait for the pause either."""
    async with supervise(evil("exit", "1", restart=LATER)) as supervisor:
        await in_backoff(supervisor)
        began = time.monotonic()
    assert time.monotonic() - began <= 0.2
    assert len(log.of(InstanceLaunched)) == 2


@pytest.mark.parametrize(
    "deeds", [("hang",), ("write", "1|1|un", "hang"), ("listen", "{dir}/s", "handshake", "{dir}/s", "hang")]
)
async def test_row_21_stop_before_ready(supervise: Supervise, evil: MakeSpec, log: Log, deeds: tuple[str, ...]) -> None:
    """stop() during the start, the handshake or the connection ends the process, within the terminate grace, for good."""
    spec = evil("error", "begun", *deeds, stop=QUICK, restart=LATER)
    async with supervise(spec) as supervisor:
        plugin = supervisor.plugin("evil")
        await log.heard(1)
        began = time.monotonic()
        await plugin.stop()
        assert time.monotonic() - began <= 1
        assert plugin.state is State.STOPPED
        assert plugin.last_exit is not None
        assert plugin.last_exit.reason is ExitReason.STOPPED
        assert not plugin.last_exit.failed
    assert len(log.of(InstanceLaunched)) == 1


async def test_row_21_restart_while_starting(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """restart() during a start that hangs ends that life and begins the next, without a word about failure."""
    async with supervise(evil("hang", stop=QUICK, restart=LATER)) as supervisor:
        plugin = supervisor.plugin("evil")
        await until(lambda: len(log.of(InstanceLaunched)) == 1, supervisor)
        restart = asyncio.create_task(plugin.restart())
        await until(lambda: len(log.of(InstanceLaunched)) == 2, supervisor)
        await plugin.stop()
        with pytest.raises(PluginUnavailableError):
            await restart
    assert [e.report.reason for e in log.of(InstanceExited)] == [ExitReason.STOPPED, ExitReason.STOPPED]


async def test_row_21_stop_overtakes_restart(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A stop that comes while a restart is under way wins, in whichever phase of it: no process afterwards."""
    async with supervise(kv()) as supervisor:
        plugin = supervisor.plugin("store")
        for state in (State.DRAINING, State.STOPPING, State.EXITED, State.STARTING):
            await plugin.start()
            seen = len(log.events)
            restart = asyncio.create_task(plugin.restart())
            await until(lambda: state in states(log.events[seen:]), supervisor)  # noqa: B023  # awaited here
            await plugin.stop()
            assert (plugin.state, plugin.pid) == (State.STOPPED, None)
            with pytest.raises(PluginUnavailableError):
                await restart


def states(events: list[Event]) -> set[State]:
    """Return the states that were entered."""
    return {event.new for event in events if isinstance(event, StateChanged)}


# --- row 22 ------------------------------------------------------------------------------------------------------------


async def test_row_22_manual_restarts_cost_nothing(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """After three ordered restarts with a budget of one, a crash is still restarted."""
    policy = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=1), backoff=AT_ONCE)
    async with supervise(kv(restart=policy)) as supervisor:
        plugin = supervisor.plugin("store")
        store = await supervisor.dispense(KvStub)
        for _ in range(3):
            await plugin.restart()
        with pytest.raises(Exception, match="exit code 6"):
            await store.get(GetRequest(key="crash:6"))
        await plugin.ready()
        assert plugin.generation == 5
    assert [e.ordered for e in log.of(RestartScheduled)] == [True, True, True, False]


# --- row 24 ------------------------------------------------------------------------------------------------------------


async def test_row_24_wall_clock_jumps(
    supervise: Supervise, kv: MakeSpec, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the wall clock jumps a day to and fro at each look, health, calls, a crash and its budget go on as if not."""
    real, looks = time.time, 0

    def jumping() -> float:
        nonlocal looks
        looks += 1
        return real() + (86400 if looks % 2 else -86400)

    monkeypatch.setattr(time, "time", jumping)
    policy = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=1), backoff=AT_ONCE)
    spec = kv(restart=policy, health=HealthProbe(interval=0.05, timeout=5, failures=1))
    async with supervise(spec) as supervisor:
        plugin = supervisor.plugin("store")
        store = await supervisor.dispense(KvStub)
        for _ in range(20):
            assert (await store.get(GetRequest(key="sleep:0.01"), timeout=5)).value == b""
        assert plugin.generation == 1
        with pytest.raises(Exception, match="exit code 6"):
            await store.get(GetRequest(key="crash:6"))
        await plugin.ready()
        with pytest.raises(Exception, match="exit code 6"):
            await store.get(GetRequest(key="crash:6"))
        await until_state(State.FAILED, supervisor)
    uptimes = [e.report.uptime for e in log.of(InstanceExited)]
    assert all(0 < uptime < 60 for uptime in uptimes)
    moments = [e.at for e in log.events]
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] < 60


# --- row 25 ------------------------------------------------------------------------------------------------------------


async def test_row_25_group_is_stopped_in_reverse(supervise: Supervise, evil: MakeSpec, log: Log) -> None:
    """Plugins are told to stop in the reverse of their start order, all at once: nobody waits for another's grace."""
    specs = [
        evil("ignore", "15", "error", "begun", "hang", name=name, stop=StopPolicy(terminate=0.5, shutdown=0, drain=0))
        for name in ("a", "b", "c", "d")
    ]
    async with supervise(*specs):
        await log.heard(4)
        began = time.monotonic()
    assert 0.5 <= time.monotonic() - began <= 0.5 + 2
    assert [e.plugin for e in log.of(StateChanged) if e.new is State.STOPPING] == ["d", "c", "b", "a"]


async def test_row_25_hundred_plugins_stop_in_time(supervise: Supervise, log: Log) -> None:
    """A hundred plugins that ignore SIGTERM are gone within their grace and two seconds."""
    program = "trap '' TERM; echo begun >&2; while :; do sleep 60 & wait; done"
    specs = [
        PluginSpec(
            name=f"p{number}",
            command=("/bin/sh", "-c", program),
            stop=StopPolicy(terminate=1, shutdown=0, drain=0),
            start_timeout=60,
        )
        for number in range(100)
    ]
    async with supervise(*specs):
        await log.heard(100)
        began = time.monotonic()
    assert time.monotonic() - began <= 1 + 2
    assert {e.report.reason for e in log.of(InstanceExited)} == {ExitReason.STOPPED}
    assert {e.report.status.signal for e in log.of(InstanceExited)} == {signal.SIGKILL}
