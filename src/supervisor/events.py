"""What the supervisor reports about itself: one frozen value per thing that happened.

The core emits events and never logs; `observe` turns them into log lines. `at` is the supervisor's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.lifecycle import State
from supervisor.outcome import ExitReport
from supervisor.records import LogSource

__all__ = [
    "Event",
    "HandshakeDone",
    "InstanceAttached",
    "InstanceExited",
    "InstanceLaunched",
    "LogsDropped",
    "NoticeRaised",
    "PluginGaveUp",
    "ProbeMissed",
    "RestartScheduled",
    "StateChanged",
    "StopRung",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to one plugin.

    Attributes:
        plugin: its name.
        generation: which life of it, from 1; 0 before the first.
        at: when, in seconds of the supervisor's monotonic clock.
    """

    plugin: str
    generation: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """The plugin went from one state to another."""

    old: State
    new: State


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLaunched(Event):
    """A process was started."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAttached(Event):
    """A process was found that is to be taken over."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeDone(Event):
    """The plugin said where it listens and which version it speaks."""

    version: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeMissed(Event):
    """A health check was not answered; `misses` in a row of `allowed`."""

    misses: int
    allowed: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRung(Event):
    """The stop ladder reached a rung: drain, shutdown, terminate, abort or kill."""

    rung: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExited(Event):
    """The one terminal event of each instance."""

    report: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartScheduled(Event):
    """The next instance starts in `delay` seconds; `attempt` restarts since the plugin was last stable.

    An `ordered` one was asked for and costs nothing of the restart budget.
    """

    delay: float
    attempt: int
    ordered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginGaveUp(Event):
    """The restart intensity is exceeded, or the failure is one that no restart can mend."""

    cause: str
    report: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsDropped(Event):
    """Log records were lost, `count` since the last such event, `total` since this instance started."""

    source: LogSource
    count: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRaised(Event):
    """Something worth a warning that changes nothing, such as noise before the handshake."""

    message: str
