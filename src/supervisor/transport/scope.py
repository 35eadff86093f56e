"""What a call waits with: one place that wakes it, for news or for the end.

grpclib interrupts a call by cancelling the task that waits and never takes the cancellation back, so that
`task.cancelling()` stays above zero and the next `asyncio.timeout`, cancel scope or task group around the call leaks a
`CancelledError`. Here nothing is ever cancelled: the end of a call is news like any other, and whoever waits is woken
and finds an error to raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from grpclib.utils import Wrapper

__all__ = ["CallScope", "MakeError"]

MakeError = Callable[[], Exception]
"""Builds the error afresh for each raise: an instance raised twice would collect both tracebacks."""

_TURN = 64
"""Waits that may be over at once before others get a turn of the loop."""


class CallScope(Wrapper):
    """The waits of one call, from any task, and the reason why they end.

    A failure is *abrupt* when it ends the call whatever has arrived (its deadline passed, the channel was closed);
    otherwise what has arrived is still delivered and only a wait for more fails (the peer went away after it answered).
    """

    def __init__(self) -> None:
        super().__init__()
        self._make_error: MakeError | None = None
        self._abrupt = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._straight = 0  # waits in a row that were over at once

    def __enter__(self) -> None:
        if self._abrupt:
            self.check()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Leave; unlike grpclib's, a call that got what it waited for keeps it."""

    @property
    def failed(self) -> bool:
        """Whether `fail` was called."""
        return self._make_error is not None

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self._make_error is not None:
            raise self._make_error()

    def fail(self, make_error: MakeError, *, abrupt: bool) -> None:
        """End the call; the first reason stays, unless an abrupt one follows."""
        if self._make_error is None or (abrupt and not self._abrupt):
            self._make_error, self._abrupt = make_error, abrupt
        self.wake()

    def cancel(self, error: Exception) -> None:
        """End the call at once with `error`: grpclib's name for it."""
        self.fail(lambda: error, abrupt=True)

    def wake(self) -> None:
        """Let every waiter look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready()`, which is asked again after each `wake`.

        Raises:
            Exception: what `fail` was given, when the call ended first.
        """
        while True:
            if not ready():
                self.check()
                await self._next_news()
            elif self._straight >= _TURN:
                self._straight = 0
                await asyncio.sleep(0)  # others' turn: a stream that never has to wait would keep the loop to itself
            else:
                break
        self._straight += 1
        if self._abrupt:
            self.check()

    async def _next_news(self) -> None:
        self._straight = 0
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
