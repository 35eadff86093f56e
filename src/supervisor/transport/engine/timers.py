"""The deadlines of one connection's calls, on one timer of the event loop.

A timer of the loop's costs a place in its heap, which a call that was answered leaves only much later. Here a deadline is
an entry in the dictionary of the slice of time in which it passes, and most are taken out again before anybody looked.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, Protocol

__all__ = ["DeadlineWheel", "Expiring"]

_SLICES: Final = 128
"""Slices per second: a deadline passes up to 8 ms late, and never early."""


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Hear that it has passed."""


class DeadlineWheel:
    """Deadlines, in slices of time."""

    __slots__ = ("_loop", "_next", "_slices", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slices: dict[int, dict[Any, None]] = {}
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Expiring, at: float) -> int:
        """Have `call` expire at `at` by the loop's clock; return the slice, for `discard`."""
        number = int(at * _SLICES) + 1
        entries = self._slices.get(number)
        if entries is None:
            self._slices[number] = {call: None}
            if number < self._next:
                self._arm(number)
        else:
            entries[call] = None
        return number

    def discard(self, call: Expiring, number: int) -> None:
        """Forget a call; it may have expired."""
        entries = self._slices.get(number)
        if entries is not None:
            entries.pop(call, None)

    def close(self) -> None:
        """Forget all."""
        self._slices.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = number
        self._timer = self._loop.call_at(number / _SLICES, self._turn)

    def _turn(self) -> None:
        """Let expire what is due, and wait for the next slice that holds something."""
        self._timer, self._next = None, math.inf
        now = self._loop.time() * _SLICES
        due = sorted(number for number, entries in self._slices.items() if number <= now or not entries)
        for number in due:
            for call in self._slices.pop(number):
                call.expire()
        if self._slices:
            self._arm(min(self._slices))
