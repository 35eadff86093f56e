"""Liveness and readiness of a running plugin, by `grpc.health.v1`.

Three outcomes and not two: an answer, a miss, and unknown. A sample during which the host's own loop was late says
nothing about the plugin, and a plugin that does not implement the health service is judged by its process alone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import anyio

from supervisor.errors import DeadlineExceededError, TransportError
from supervisor.services import health
from supervisor.transport.channel import Channel

__all__ = ["Outcome", "Sample", "take_sample"]

_LATE: Final = 0.1
"""A loop that was this many seconds late, once, makes a missed sample worthless."""

_TICK: Final = 0.05


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


async def take_sample(channel: Channel, *, service: str, timeout: float) -> Sample:
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
