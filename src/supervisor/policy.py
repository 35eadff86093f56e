"""When to restart: pure decisions. The caller brings the clock and the dice.

Defaults follow what users of other supervisors ended up with: the first restart is immediate (Kubernetes), later ones
back off exponentially with jitter, five restarts in a minute end in giving up (OTP's intensity), and a plugin that
stayed ready for a minute starts with a clean slate.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from supervisor.errors import ConfigurationError

__all__ = [
    "Backoff",
    "GiveUp",
    "History",
    "Rest",
    "Restart",
    "RestartAfter",
    "RestartIntensity",
    "RestartPolicy",
    "Strategy",
    "Verdict",
    "affected",
    "decide",
]

_GROWING = 64
"""Restarts after which a pause grows no more."""


class Restart(enum.StrEnum):
    """Which exits are followed by a restart (OTP's restart types)."""

    PERMANENT = "permanent"
    """Every exit that nobody asked for."""
    TRANSIENT = "transient"
    """Only failures: a signal, a non-zero exit code, a lost liveness."""
    TEMPORARY = "temporary"
    """None."""


class Strategy(enum.StrEnum):
    """Who else restarts when a plugin does (OTP's supervision strategies)."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


def affected(strategy: Strategy, order: Sequence[str], failed: str) -> tuple[str, ...]:
    """Return the plugins that restart together with `failed`, itself included, in start order.

    Args:
        strategy: the supervisor's strategy.
        order: all plugin names in start order; `failed` is one of them.
        failed: the plugin whose exit is followed by a restart.
    """
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return (failed,)
        case Strategy.ONE_FOR_ALL:
            return tuple(order)
        case Strategy.REST_FOR_ONE:
            return tuple(order[order.index(failed) :])


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartIntensity:
    """At most `limit` restarts inside any window of `period` seconds."""

    limit: int = 5
    period: float = 60.0

    def __post_init__(self) -> None:
        if not (self.limit >= 0 and self.period > 0):
            raise ConfigurationError(f"intensity needs limit >= 0 and period > 0, got {self.limit} in {self.period} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential pauses between restarts, in seconds; `jitter` is the share of a pause that the dice may take off.

    Full jitter is `jitter=1`; it spreads restarts of plugins that fell together over the whole pause.
    """

    initial: float = 0.2
    factor: float = 2.0
    ceiling: float = 30.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if not (self.initial >= 0 and self.factor >= 1 and self.ceiling >= self.initial and 0 <= self.jitter <= 1):
            raise ConfigurationError(
                f"backoff needs 0 <= initial <= ceiling, factor >= 1 and 0 <= jitter <= 1, got {self}",
                hint="for a constant pause set factor = 1",
            )
        if self.ceiling > self.initial > 0 and self.factor == 1:
            raise ConfigurationError(
                f"backoff never reaches its ceiling of {self.ceiling} s with factor = 1",
                hint="set factor above 1, or ceiling = initial for a constant pause",
            )

    def delay(self, streak: int, dice: float = 0.0) -> float:
        """Return the pause before restart number `streak` (from 0) of a streak, for `dice` in [0, 1)."""
        # factor ** streak overflows after a day of crashing, and at once for a large factor; the ceiling is reached
        # long before.
        try:
            full = min(self.ceiling, self.initial * self.factor ** min(streak, _GROWING))
        except OverflowError:
            full = self.ceiling if self.initial else 0.0
        return full * (1 - self.jitter * dice)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """What follows an exit: which exits, how often, after which pause.

    Attributes:
        restart: which exits are followed by a restart.
        intensity: how many restarts are too many.
        backoff: the pauses; the first restart of a streak is immediate.
        stable_after: seconds of being ready after which the streak is forgotten.
    """

    restart: Restart = Restart.TRANSIENT
    intensity: RestartIntensity = field(default_factory=RestartIntensity)
    backoff: Backoff = field(default_factory=Backoff)
    stable_after: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.restart, Restart):
            raise ConfigurationError(
                f"restart is {self.restart!r}", hint=f"use one of {', '.join(map(str, Restart))} from Restart"
            )
        if not self.stable_after > 0:
            raise ConfigurationError(f"stable_after must be positive, got {self.stable_after}")
        # The limit trips when `limit` restarts and one more exit fall into one window. The first restart of a streak
        # is immediate, so the shortest way there takes the pauses 0 .. limit - 2.
        restarts = self.intensity.limit - 1
        shortest = sum(self.backoff.delay(streak, 1.0) for streak in range(min(restarts, _GROWING)))
        shortest += self.backoff.delay(_GROWING, 1.0) * max(0, restarts - _GROWING)
        if shortest >= self.intensity.period:
            raise ConfigurationError(
                f"intensity {self.intensity.limit} in {self.intensity.period:g} s can never trip: the backoff's own"
                f" pauses take {shortest:g} s by restart {self.intensity.limit}",
                hint="widen intensity.period, lower intensity.limit or lower backoff.ceiling",
            )


@dataclass(frozen=True, slots=True)
class History:
    """The restarts already spent: when (newest first, inside the window) and how many since it was last stable."""

    restarts: tuple[float, ...] = ()
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Rest:
    """Do not restart: the exit was not one that this policy restarts."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not restart: the intensity is exceeded."""

    spent: int
    period: float


@dataclass(frozen=True, slots=True)
class RestartAfter:
    """Restart after `delay` seconds, and remember `history`."""

    delay: float
    history: History


Verdict = Rest | GiveUp | RestartAfter


def decide(
    policy: RestartPolicy,
    history: History,
    *,
    failed: bool,
    now: float,
    ready_for: float = 0.0,
    dice: float = 0.0,
) -> Verdict:
    """Say what to do about an exit at `now`, given the restarts already spent.

    Args:
        policy: the plugin's policy.
        history: what the last verdict said to remember.
        failed: whether the exit counts as a failure.
        now: a monotonic time in seconds.
        ready_for: how long the instance had been ready, in seconds.
        dice: a random number in [0, 1).
    """
    if policy.restart is Restart.TEMPORARY or (policy.restart is Restart.TRANSIENT and not failed):
        return Rest()

    spent = tuple(at for at in history.restarts if now - at < policy.intensity.period)
    if len(spent) >= policy.intensity.limit:
        return GiveUp(len(spent), policy.intensity.period)

    streak = 0 if ready_for >= policy.stable_after else history.streak
    delay = policy.backoff.delay(streak - 1, dice) if streak else 0.0
    # The restart happens `delay` from now; counting it from there keeps a long pause from eating its own window.
    return RestartAfter(delay, History((now + delay, *spent), streak + 1))
