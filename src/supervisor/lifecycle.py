"""One life of a plugin as a table: states, signals, and what leads where.

The table is data. The keeper is its only user at run time, the diagram in the docs is printed from it, and a pair
that is not in it is a defect of this library.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from supervisor.errors import IllegalTransitionError

__all__ = ["TRANSITIONS", "Signal", "State", "diagram", "transition"]


class State(enum.StrEnum):
    """Where a plugin is in its life."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    DRAINING = "draining"
    STOPPING = "stopping"
    EXITED = "exited"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def has_process(self) -> bool:
        """Whether an instance exists in this state."""
        return self in _WITH_PROCESS

    @property
    def at_rest(self) -> bool:
        """Whether the plugin stays here until somebody acts."""
        return self in {State.STOPPED, State.FAILED}


class Signal(enum.StrEnum):
    """What happens to a plugin."""

    START = "start"
    BECAME_READY = "became ready"
    BECAME_UNREADY = "became unready"
    DRAIN = "drain"
    STOP = "stop"
    EXIT = "exit"
    RETRY = "retry"
    REST = "rest"
    GIVE_UP = "give up"


_WITH_PROCESS: Final = frozenset({State.STARTING, State.READY, State.UNREADY, State.DRAINING, State.STOPPING})

TRANSITIONS: Final[Mapping[State, Mapping[Signal, State]]] = MappingProxyType(
    {
        State.PENDING: {Signal.START: State.STARTING, Signal.STOP: State.STOPPED},
        State.STARTING: {Signal.BECAME_READY: State.READY, Signal.STOP: State.STOPPING, Signal.EXIT: State.EXITED},
        State.READY: {
            Signal.BECAME_UNREADY: State.UNREADY,
            Signal.DRAIN: State.DRAINING,
            Signal.STOP: State.STOPPING,
            Signal.EXIT: State.EXITED,
        },
        State.UNREADY: {
            Signal.BECAME_READY: State.READY,
            Signal.DRAIN: State.DRAINING,
            Signal.STOP: State.STOPPING,
            Signal.EXIT: State.EXITED,
        },
        State.DRAINING: {Signal.STOP: State.STOPPING, Signal.EXIT: State.EXITED},
        State.STOPPING: {Signal.STOP: State.STOPPING, Signal.EXIT: State.EXITED},
        State.EXITED: {
            Signal.RETRY: State.BACKOFF,
            Signal.REST: State.STOPPED,
            Signal.GIVE_UP: State.FAILED,
            Signal.STOP: State.STOPPED,
        },
        State.BACKOFF: {Signal.START: State.STARTING, Signal.STOP: State.STOPPED},
        State.STOPPED: {Signal.START: State.STARTING, Signal.STOP: State.STOPPED},
        State.FAILED: {Signal.START: State.STARTING, Signal.STOP: State.STOPPED},
    }
)


def transition(state: State, signal: Signal) -> State:
    """Return the state that `signal` leads to from `state`.

    Raises:
        IllegalTransitionError: the table has no such pair.
    """
    try:
        return TRANSITIONS[state][signal]
    except KeyError:
        raise IllegalTransitionError(f"no transition from {state} on {signal!r}") from None


def diagram() -> str:
    """Print the table as a Mermaid state diagram, as `docs/architecture.md` shows it."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    for state, row in TRANSITIONS.items():
        by_target: dict[State, list[str]] = {}
        for signal, target in row.items():
            by_target.setdefault(target, []).append(signal.value)
        lines += [
            f"    {state} --> {target}: {', '.join(signals)}"
            for target, signals in by_target.items()
            if target != state
        ]
    return "\n".join(lines)
