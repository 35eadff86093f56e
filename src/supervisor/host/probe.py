"""Liveness and readiness of a running plugin, by `grpc.health.v1`.

Three outcomes and not two: an answer, a miss, and unknown. A sample during which the host's own loop was late says
nothing about the plugin, and a plugin that does not implement the health service is judged by its process alone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from supervisor.errors import DeadlineExceededError, TransportError
from supervisor.services import health
from supervisor.spec import HealthProbe
from supervisor.transport.channel import Channel

__all__ = ["Outcome", "Sample", "await_serving", "take_sample", "watch_health"]

_LATE: Final = 0.1
"""A loop that was this many seconds late, once, makes a missed sample worthless."""

_TICK: Final = 0.05

_STARTUP: Final = 0.2
"""Seconds between health checks of a plugin that said it is not serving yet."""


class Outcome(enum.Enum):
    """What one health check says."""

    READY = enum.auto()
    """SERVING: alive and willing."""
    UNREADY = enum.auto()
    """NOT_SERVING: alive and unwilling."""
    MISSED = enum.auto()
    """No answer in time, or the call failed."""
    UNKNOWN = enum.auto()
    """Says nothing: the host was late."""
    UNSUPPORTED = enum.auto()
    """The plugin does not implement the service, or does not know the name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An outcome and, for a miss, what went wrong."""

    outcome: Outcome
    error: str = ""


async def await_serving(channel: Channel, probe: HealthProbe, *, on_sample: Callable[[Sample], None]) -> bool:
    """Ask until the plugin serves; False when it has no health service to ask. `on_sample` is told each answer."""
    while True:
        sample = await take_sample(channel, timeout=probe.timeout)
        on_sample(sample)
        if sample.outcome in {Outcome.READY, Outcome.UNSUPPORTED}:
            return sample.outcome is Outcome.READY
        await anyio.sleep(_STARTUP)


async def watch_health(
    channel: Channel,
    probe: HealthProbe,
    *,
    on_readiness: Callable[[bool], None],
    on_miss: Callable[[int, str], None],
) -> str | None:
    """Ask every `probe.interval` seconds until the plugin has missed too many in a row; return what went wrong then.

    Args:
        channel: the connection to ask on.
        probe: how often, how long, how many.
        on_readiness: told when a plugin that was ready no longer is, or is again.
        on_miss: told how many misses in a row there are now, and what went wrong.

    Returns:
        The last error; None when the plugin has no health service.
    """
    misses, ready = 0, True
    begun = anyio.current_time()
    while True:
        # From one question to the next: counted from the answer, each miss would put the verdict off by its timeout.
        await anyio.sleep_until(begun + probe.interval)
        begun = anyio.current_time()
        sample = await take_sample(channel, timeout=probe.timeout)
        match sample.outcome:
            case Outcome.UNSUPPORTED:
                return None
            case Outcome.READY | Outcome.UNREADY:
                misses, was_ready, ready = 0, ready, sample.outcome is Outcome.READY
                if ready is not was_ready:
                    on_readiness(ready)
            case Outcome.MISSED:
                misses += 1
                on_miss(misses, sample.error)
                if misses >= probe.failures:
                    return sample.error
            case Outcome.UNKNOWN:
                pass


async def take_sample(channel: Channel, *, timeout: float, service: str = health.PLUGIN_SERVICE) -> Sample:
    """Ask once and judge the answer; never raises but for cancellation."""
    async with anyio.create_task_group() as tasks:
        lateness = _Lateness()
        tasks.start_soon(lateness.measure)
        sample = await _ask(channel, service, timeout)
        tasks.cancel_scope.cancel()
    if sample.outcome is Outcome.MISSED and lateness.worst > _LATE:
        return Sample(Outcome.UNKNOWN, f"the host's loop was {lateness.worst:.2f} s late")
    return sample


async def _ask(channel: Channel, service: str, timeout: float) -> Sample:
    try:
        status = await health.check(channel, service, timeout=timeout)
    except DeadlineExceededError:
        return Sample(Outcome.MISSED, f"no answer within {timeout:g} s")
    except TransportError as error:
        return Sample(Outcome.MISSED, str(error))
    match status:
        case health.ServingStatus.SERVING:
            return Sample(Outcome.READY)
        case health.ServingStatus.NOT_SERVING:
            return Sample(Outcome.UNREADY)
        case _:
            return Sample(Outcome.UNSUPPORTED)


class _Lateness:
    """How late the loop wakes a sleeper, at worst, while a sample is under way."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._due = anyio.current_time() + _TICK

    async def measure(self) -> None:
        while True:
            self._due = anyio.current_time() + _TICK
            await anyio.sleep_until(self._due)
            self.worst = max(self.worst, anyio.current_time() - self._due)
