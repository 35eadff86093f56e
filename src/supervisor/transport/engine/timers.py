"""The deadlines of one connection's calls, on one timer of the event loop.

A timer of the loop's costs a place in its heap, which a call that was answered leaves only much later. Here a deadline is
an entry in the dictionary of the slice of time in which it passes, and most are taken out again before anybody looked.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, Protocol

__all__ = ["DeadlineWheel", "Expiring", "Slice"]

_SLICES: Final = 128
"""Slices per second: a deadline passes up to 8 ms late, and never early."""


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Hear that it has passed."""


Slice = dict[Any, None]
"""Those whose deadline passes in one slice of time."""


class DeadlineWheel:
    """Deadlines, in slices of time."""

    __slots__ = ("_entries", "_loop", "_next", "_number", "_slices", "_sweep_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slices: dict[int, Slice] = {}
        self._sweep_at = 64
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._number = -1  # the slice that was last added to, which the next one is mostly for
        self._entries: Slice = {}

    def add(self, call: Expiring, at: float) -> Slice:
        """Have `call` expire at `at` by the loop's clock; return the slice, out of which it may be taken before."""
        number = int(at * _SLICES) + 1
        if number != self._number:
            self._number, self._entries = number, self._open(number)
        entries = self._entries
        entries[call] = None
        return entries

    def _open(self, number: int) -> Slice:
        entries = self._slices.get(number)
        if entries is None:
            if len(self._slices) >= self._sweep_at:
                self._slices = {number: entries for number, entries in self._slices.items() if entries}
                self._sweep_at = 2 * len(self._slices) + 64
            entries = self._slices[number] = {}
            if number < self._next:
                self._arm(number)
        return entries

    def close(self) -> None:
        """Forget all."""
        self._slices.clear()
        self._number = -1
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
        self._timer, self._next, self._number = None, math.inf, -1
        now = self._loop.time() * _SLICES
        due = sorted(number for number, entries in self._slices.items() if number <= now or not entries)
        for number in due:
            entries = self._slices.pop(number)
            for call in tuple(entries):
                if call in entries:  # else one that expired before it took it out
                    call.expire()
        if self._slices:
            self._arm(min(self._slices))
