"""Crash loops over hours and days, in virtual time: the same on every run. Rows 19 and 20 of the fault table."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watching import Log

from supervisor import Backoff, PluginSpec, Restart, RestartIntensity, RestartPolicy, Supervisor
from supervisor.events import Event, InstanceLaunched, PluginGaveUp, RestartScheduled
from supervisor.testing.scripted import ScriptedProcess, ScriptedRunner
from supervisor.testing.virtual_time import run_in_virtual_time

DAY = 86400.0
STABLE_AFTER = 60.0

OFTEN = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=11, period=60))
"""The default pauses of up to half a minute, in a window just wide enough for them."""

SELDOM = RestartPolicy(
    restart=Restart.PERMANENT, intensity=RestartIntensity(limit=11, period=120), backoff=Backoff(ceiling=300)
)
"""Pauses of up to five minutes, as Kubernetes has them."""


def run_for(seconds: float, policy: RestartPolicy, script: Callable[[ScriptedProcess], Awaitable[int]]) -> Log:
    """Supervise one plugin that follows `script` for so many virtual seconds."""
    log = Log()

    async def main() -> None:
        spec = PluginSpec(name="looper", command=("scripted",), restart=policy)
        async with Supervisor([spec], observers=[log], runner=lambda: ScriptedRunner(script)):
            await anyio.sleep(seconds)

    run_in_virtual_time(main)
    return log


def crash_for_a_day(policy: RestartPolicy, seed: int) -> Log:
    """Have a plugin exit at once for a day. The supervisor's dice are `random.random`, the same for a seed everywhere."""
    random.seed(seed)

    async def exit_at_once(process: ScriptedProcess) -> int:
        return 1

    return run_for(DAY, policy, exit_at_once)


def digest(events: list[Event]) -> str:
    """Return a hash of what happened, when, and to which life."""
    trace = [(type(event).__name__, event.at, event.generation) for event in events]
    return hashlib.sha256(repr(trace).encode()).hexdigest()


def most_within(moments: list[float], period: float) -> int:
    """Return how many of the moments fall into the fullest window of that many seconds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= period:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_row_19_a_day_of_a_crash_loop_is_the_same_every_time() -> None:
    """Two days with one seed are equal to the last event, another seed's differs, and no window is ever too full."""
    one, same = crash_for_a_day(OFTEN, 1), crash_for_a_day(OFTEN, 1)
    assert digest(one.events) == digest(same.events)
    launches = [event.at for event in one.of(InstanceLaunched)]
    assert not one.of(PluginGaveUp)
    assert DAY / 30 < len(launches) < DAY / 15
    assert most_within(launches, OFTEN.intensity.period) <= OFTEN.intensity.limit + 1
    assert all(15 <= later - earlier <= 30 for earlier, later in pairwise(launches[12:]))
    one.assert_each_launch_ended_once()
    other = crash_for_a_day(SELDOM, 1), crash_for_a_day(SELDOM, 2)
    assert digest(other[0].events) != digest(other[1].events)


def test_row_19_a_day_takes_less_than_a_second() -> None:
    """A day with pauses of up to five minutes is simulated in less than a second: the better of two tries."""
    took = []
    for _ in range(2):
        began = time.perf_counter()
        log = crash_for_a_day(SELDOM, 7)
        took.append(time.perf_counter() - began)
    launches = [event.at for event in log.of(InstanceLaunched)]
    assert launches[-1] > DAY - 300
    assert most_within(launches, SELDOM.intensity.period) <= SELDOM.intensity.limit + 1
    assert min(took) < 1


def test_row_19_a_tight_budget_ends_the_loop() -> None:
    """With the default policy a loop ends in giving up after limit + 1 launches, within the window, and stays ended."""
    random.seed(3)

    async def exit_at_once(process: ScriptedProcess) -> int:
        return 1

    log = run_for(DAY, RestartPolicy(restart=Restart.PERMANENT), exit_at_once)
    launches = [event.at for event in log.of(InstanceLaunched)]
    assert len(launches) == 6
    assert launches[-1] < 60
    assert len(log.of(PluginGaveUp)) == 1


@settings(max_examples=25, deadline=None)
@given(lives=st.lists(st.sampled_from([0.0, 1.0, 59.0, 59.999, 60.001, 61.0, 300.0]), min_size=1, max_size=8))
def test_row_20_only_a_stable_life_resets_the_backoff(lives: list[float]) -> None:
    """Whatever lives come before: one of `stable_after` seconds or more begins a new streak, a shorter one never does."""
    policy = RestartPolicy(
        restart=Restart.PERMANENT, intensity=RestartIntensity(limit=20, period=3600), stable_after=STABLE_AFTER
    )

    async def live(process: ScriptedProcess) -> int:
        with anyio.move_on_after(lives[process.generation - 1] if process.generation <= len(lives) else None):
            await process.serve()
        return 1

    log = run_for(sum(lives) + 31 * len(lives), policy, live)
    scheduled = log.of(RestartScheduled)
    assert len(scheduled) == len(lives)
    streak = 0
    for seconds, restart in zip(lives, scheduled, strict=True):
        streak = 1 if seconds >= STABLE_AFTER else streak + 1
        assert restart.attempt == streak
        full = min(30, 0.2 * 2 ** (streak - 2)) if streak > 1 else 0
        assert full / 2 <= restart.delay <= full


@pytest.mark.parametrize(("seconds", "grows"), [(STABLE_AFTER + 0.001, False), (STABLE_AFTER - 0.001, True)])
def test_row_20_flapping_around_the_stable_time(seconds: float, grows: bool) -> None:
    """Two hours of lives just over the stable time are always followed at once; just under it the pauses grow to the end."""

    async def flap(process: ScriptedProcess) -> int:
        with anyio.move_on_after(seconds):
            await process.serve()
        return 1

    log = run_for(7200, RestartPolicy(restart=Restart.PERMANENT, stable_after=STABLE_AFTER), flap)
    delays = [event.delay for event in log.of(RestartScheduled)]
    assert len(delays) > 70
    assert not log.of(PluginGaveUp)
    assert (max(delays) > 0) is grows
    assert all(15 <= delay <= 30 for delay in delays[12:]) is grows
