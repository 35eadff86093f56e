"""When to restart: the table of decisions, and what a policy may not be."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from supervisor.errors import ConfigurationError
from supervisor.policy import (
    Backoff,
    GiveUp,
    History,
    Rest,
    Restart,
    RestartAfter,
    RestartIntensity,
    RestartPolicy,
    Strategy,
    affected,
    decide,
)

ALWAYS = RestartPolicy(restart=Restart.PERMANENT, backoff=Backoff(jitter=0))


@pytest.mark.parametrize(
    ("restart", "failed", "restarts"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
def test_the_type_says_which_exits_are_followed_by_a_restart(restart: Restart, failed: bool, restarts: bool) -> None:
    """OTP's three restart types."""
    verdict = decide(RestartPolicy(restart=restart), History(), failed=failed, now=0.0)

    assert isinstance(verdict, RestartAfter if restarts else Rest)


def test_the_first_restart_is_immediate_and_later_ones_back_off() -> None:
    """A streak of crashes pauses 0, then exponentially longer, until the intensity is exceeded."""
    history, now, delays = History(), 100.0, []
    while isinstance(verdict := decide(ALWAYS, history, failed=True, now=now), RestartAfter):
        delays.append(verdict.delay)
        history, now = verdict.history, now + verdict.delay

    assert delays == [0.0, 0.2, 0.4, 0.8, 1.6]
    assert verdict == GiveUp(spent=5, period=60.0)


def test_restarts_outside_the_window_are_forgotten() -> None:
    """Six crashes, each 20 s apart, never have five in a minute; the pauses still grow."""
    history, delays = History(), []
    for crash in range(6):
        verdict = decide(ALWAYS, history, failed=True, now=crash * 20.0)
        assert isinstance(verdict, RestartAfter)
        delays.append(verdict.delay)
        history = verdict.history

    assert len(history.restarts) <= 4
    assert delays == sorted(delays)
    assert history.streak == 6


def test_being_stable_ends_the_streak_but_not_the_window() -> None:
    """After `stable_after` seconds of being ready the pause starts over; the intensity still counts."""
    spent = History(restarts=(99.0, 98.0), streak=7)

    verdict = decide(ALWAYS, spent, failed=True, now=100.0, ready_for=60.0)

    assert verdict == RestartAfter(0.0, History((100.0, 99.0, 98.0), 1))


def test_an_intensity_of_zero_gives_up_at_once() -> None:
    """At most 0 restarts are none."""
    policy = RestartPolicy(restart=Restart.PERMANENT, intensity=RestartIntensity(limit=0))

    assert decide(policy, History(), failed=True, now=0.0) == GiveUp(0, 60.0)


@given(
    initial=st.floats(0, 100),
    factor=st.floats(1.001, 1e300),
    more=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    streak=st.integers(0, 10**9),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_is_within_its_bounds(
    *, initial: float, factor: float, more: float, jitter: float, streak: int, dice: float
) -> None:
    """No streak, factor or dice overflows, leaves the ceiling, or takes off more than the jitter."""
    backoff = Backoff(initial=initial, factor=factor, ceiling=initial + more, jitter=jitter)

    delay = backoff.delay(streak, dice)

    assert 0 <= delay <= backoff.ceiling
    assert delay >= backoff.delay(streak, 0.0) * (1 - jitter) - 1e-9


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_day_of_crashes_ends_the_same_way_for_any_dice(early: float, late: float) -> None:
    """The verdict depends on nothing but its arguments: a loop without readiness always gives up."""
    history, now = History(), 0.0
    policy = RestartPolicy(restart=Restart.PERMANENT)
    for turn in range(100):
        verdict = decide(policy, history, failed=True, now=now, dice=early if turn % 2 else late)
        if not isinstance(verdict, RestartAfter):
            break
        history, now = verdict.history, now + verdict.delay

    assert verdict == GiveUp(5, 60.0)
    assert len(history.restarts) == 5


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(Strategy.ONE_FOR_ONE, ("b",)), (Strategy.ONE_FOR_ALL, ("a", "b", "c")), (Strategy.REST_FOR_ONE, ("b", "c"))],
)
def test_the_strategy_says_who_else_restarts(strategy: Strategy, expected: tuple[str, ...]) -> None:
    """OTP's three strategies, in start order."""
    assert affected(strategy, ["a", "b", "c"], "b") == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial": -1},
        {"factor": 0.5},
        {"ceiling": 0.1},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"factor": 1},
        {"initial": math.nan},
        {"ceiling": math.nan},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    """Also one whose ceiling is never reached because it does not grow."""
    with pytest.raises(ConfigurationError):
        Backoff(**arguments)


def test_a_constant_pause_is_a_backoff_too() -> None:
    """With factor 1 and the ceiling at the initial pause nothing grows and nothing is refused."""
    assert Backoff(initial=1, factor=1, ceiling=1, jitter=0).delay(50) == 1


@pytest.mark.parametrize(("limit", "period"), [(-1, 60), (5, 0), (5, -1), (5, math.nan)])
def test_an_intensity_that_makes_no_sense_is_refused(limit: int, period: float) -> None:
    """A negative number of restarts, and a window that is none."""
    with pytest.raises(ConfigurationError):
        RestartIntensity(limit=limit, period=period)


@pytest.mark.parametrize("stable_after", [0, -1, math.nan])
def test_a_stable_time_is_positive(stable_after: float) -> None:
    """Else every restart would start over without a pause."""
    with pytest.raises(ConfigurationError):
        RestartPolicy(stable_after=stable_after)


@pytest.mark.parametrize(("limit", "ceiling"), [(50, 30), (5_000, 0.2), (10**12, 0.2)])
def test_a_policy_that_can_never_trip_is_refused(limit: int, ceiling: float) -> None:
    """Its own pauses outlast the window; that is found at once, whatever the numbers."""
    with pytest.raises(ConfigurationError, match="can never trip") as caught:
        RestartPolicy(
            intensity=RestartIntensity(limit=limit, period=60),
            backoff=Backoff(initial=0.2, factor=1 if ceiling == 0.2 else 2, ceiling=ceiling),
        )

    assert caught.value.hint is not None


@given(
    limit=st.integers(0, 12),
    period=st.floats(0.5, 100),
    initial=st.floats(0.01, 10),
    factor=st.floats(1.1, 4),
    ceiling=st.floats(10, 60),
    jitter=st.floats(0, 1),
)
def test_a_policy_is_refused_if_and_only_if_it_cannot_trip(
    *, limit: int, period: float, initial: float, factor: float, ceiling: float, jitter: float
) -> None:
    """With the luckiest dice, an instance that dies at once is given up on, or the policy does not exist."""
    intensity = RestartIntensity(limit=limit, period=period)
    backoff = Backoff(initial=initial, factor=factor, ceiling=ceiling, jitter=jitter)
    pauses = sum(backoff.delay(streak, 1.0) for streak in range(limit - 1))
    assume(abs(pauses - period) > 1e-6)  # at the very edge, rounding decides
    try:
        policy = RestartPolicy(restart=Restart.PERMANENT, intensity=intensity, backoff=backoff)
    except ConfigurationError:
        policy = RestartPolicy(restart=Restart.PERMANENT)
        object.__setattr__(policy, "intensity", intensity)
        object.__setattr__(policy, "backoff", backoff)
        trips = False
    else:
        trips = True

    history, now, verdict = History(), 0.0, None
    for _ in range(limit + 2):
        verdict = decide(policy, history, failed=True, now=now, dice=1.0)
        if not isinstance(verdict, RestartAfter):
            break
        history, now = verdict.history, now + verdict.delay

    assert isinstance(verdict, GiveUp) == trips
