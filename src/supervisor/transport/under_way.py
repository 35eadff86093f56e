"""The calls that a server has under way, on all of its connections and whichever engine serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final, Protocol

__all__ = ["STOPPING", "CallUnderWay", "CallsUnderWay"]

STOPPING: Final = "the server is stopping"
"""What a call is told that comes too late, or takes too long."""


class CallUnderWay(Protocol):
    """A call that is being served."""

    def cut(self) -> None:
        """Answer it at once, and cancel its handler."""


class CallsUnderWay:
    """Those that a stop waits for, and beside them those of the background: streams that stay open to the very end.

    Attributes:
        background: the routes of the latter.
        draining: new calls are to be refused, except to those.
        counted: calls that a stop waits for.
        others: calls to routes of the background.
    """

    def __init__(self, background: Collection[str] = ()) -> None:
        self.background = frozenset(background)
        self.draining = False
        self.counted: set[CallUnderWay] = set()
        self.others: set[CallUnderWay] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self.counted) + len(self.others)

    def among(self, route: str) -> set[CallUnderWay]:
        """Return where a call to `route` is kept. Whoever takes out the last one calls `tell`."""
        return self.others if route in self.background else self.counted

    def tell(self) -> None:
        """Have those who wait for the end of calls look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, *, counted: bool, timeout: float) -> bool:
        """Wait until no call is under way, or none that is counted; return whether that came within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout) as limit:
                while self.counted or (self.others and not counted):
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True

    def cut(self) -> int:
        """End all; return how many there were."""
        calls = (*self.counted, *self.others)
        for call in calls:
            call.cut()
        return len(calls)
