"""A budget for frames whose only effect is work: what a peer has left of it, and how it earns it back.

What counts: PING, SETTINGS, RST_STREAM, PRIORITY, frames of unknown types, frames on streams that are over, empty DATA
and CONTINUATION, and a WINDOW_UPDATE that does more, or less, than give back what a message took (section 10.5).
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.transport.engine.faults import FloodError

__all__ = ["Budget"]


class Budget:
    """So many at once, so many more per second."""

    __slots__ = ("_burst", "_clock", "_left", "_rate", "_refilled_at")

    def __init__(self, burst: int, rate: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._left = burst
        self._refilled_at = clock()

    def spend(self, what: str, cost: int = 1) -> None:
        """Take `cost`.

        Raises:
            FloodError: there is not as much left.
        """
        self._left -= cost
        if self._left < 0:
            now = self._clock()
            earned = int((now - self._refilled_at) * self._rate)
            if self._left + earned < 0:
                raise FloodError(f"the peer floods the connection, last with {what}", limit=self._burst)
            self._left = min(self._burst, self._left + earned)
            self._refilled_at = now
