"""The stop ladder: ask politely, then less so, as long as each rung allows, until the process has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

__all__ = ["Rung", "climb"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of asking a process to end.

    Attributes:
        name: drain, shutdown, terminate, abort or kill.
        grace: seconds for the asking and for the exit that follows it.
        ask: asks; returns whether it is worth waiting for the exit.
    """

    name: str
    grace: float
    ask: Callable[[], Awaitable[bool]]


async def climb(rungs: Sequence[Rung], exited: anyio.Event, *, on_rung: Callable[[str], None]) -> None:
    """Climb until `exited` is set or the last rung's grace is over.

    Bounded by the sum of the graces. A cancellation ends it at once: whoever calls it must then kill.

    Args:
        rungs: from the most polite to the last.
        exited: set when the process has ended.
        on_rung: told the name of each rung that is reached.
    """
    for rung in rungs:
        if exited.is_set():
            return
        on_rung(rung.name)
        with anyio.move_on_after(rung.grace):
            if await rung.ask():
                await exited.wait()
