"""Broadcast to listeners of any speed."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.host.feed import Feed


async def test_subscription_gets_what_is_told_from_then_on() -> None:
    """Items told before the subscription are not seen, those after are, in order, by every subscription."""
    feed: Feed[int] = Feed()
    feed.tell(0)
    one, other = feed.subscribe(), feed.subscribe()
    for number in (1, 2):
        feed.tell(number)
    feed.close()
    assert [number async for number in one] == [number async for number in other] == [1, 2]


async def test_slow_listener_misses_the_oldest() -> None:
    """A subscription holds its capacity, loses the oldest and counts them."""
    feed: Feed[int] = Feed()
    subscription = feed.subscribe(capacity=2)
    for number in range(5):
        feed.tell(number)
    subscription.close()
    assert [number async for number in subscription] == [3, 4]
    assert subscription.missed == 3


async def test_waiting_listener_is_woken() -> None:
    """A listener that waits gets the next item, and the end."""
    feed: Feed[str] = Feed()
    with feed.subscribe() as subscription:
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        feed.tell("news")
        assert await waiting == "news"
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        feed.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_cancelled_wait_loses_nothing() -> None:
    """An item told after a wait was cancelled is there for the next one."""
    feed: Feed[str] = Feed()
    subscription = feed.subscribe()
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    waiting.cancel()
    feed.tell("news")
    assert await anext(subscription) == "news"


async def test_subscription_to_a_closed_feed_has_ended() -> None:
    """Listening to a feed that is over ends at once instead of waiting for ever."""
    feed: Feed[str] = Feed()
    feed.close()
    assert [item async for item in feed.subscribe()] == []
