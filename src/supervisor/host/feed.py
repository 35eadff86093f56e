"""Bounded broadcast: whoever listens gets what happens from then on, and never slows down whoever tells."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

__all__ = ["Feed", "Subscription"]

ItemT = TypeVar("ItemT")


class Subscription(Generic[ItemT]):
    """One listener's items, oldest first: an async iterator that ends when the feed or the subscription is closed.

    Holds at most `capacity` items; when the listener is slower than that the oldest are dropped and counted in
    `missed`. It is an object and not an async generator, so leaving a loop early needs no clean-up; `close()` it, or
    use it as a context manager, when you are done. One consumer at a time.
    """

    def __init__(self, feed: Feed[ItemT], capacity: int) -> None:
        self._feed = feed
        self._items: deque[ItemT] = deque(maxlen=capacity)
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.missed = 0

    def put_nowait(self, item: ItemT) -> None:
        """Add an item; drops the oldest when full."""
        if len(self._items) == self._items.maxlen:
            self.missed += 1
        self._items.append(item)
        self._wake()

    def close(self) -> None:
        """End the iteration after the items already here."""
        self._closed = True
        self._feed.discard(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Feed(Generic[ItemT]):
    """What subscriptions listen to."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription[ItemT]] = []
        self._closed = False

    def subscribe(self, capacity: int = 1024) -> Subscription[ItemT]:
        """Return a subscription to everything told from now on; one that has ended already when the feed has."""
        subscription = Subscription(self, capacity)
        self._subscriptions.append(subscription)
        if self._closed:
            subscription.close()
        return subscription

    def tell(self, item: ItemT) -> None:
        """Pass `item` to every subscription; never blocks."""
        for subscription in self._subscriptions:
            subscription.put_nowait(item)

    def discard(self, subscription: Subscription[ItemT]) -> None:
        """Forget a subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every subscription after the items it already has, and those to come at once."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()
