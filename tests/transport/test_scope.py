"""A call's scope wakes who waits, with news or with the end."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.transport.scope import CallScope


async def _waiting(scope: CallScope, ready: list[int]) -> asyncio.Task[None]:
    task = asyncio.create_task(scope.wait_until(lambda: bool(ready)))
    await asyncio.sleep(0)
    return task


async def test_waiter_looks_again_after_each_wake() -> None:
    """A wake that brings nothing leaves the waiter waiting; one that does lets it go."""
    scope, ready = CallScope(), list[int]()
    waiter = await _waiting(scope, ready)
    scope.wake()
    await asyncio.sleep(0)
    assert not waiter.done()
    ready.append(1)
    scope.wake()
    await waiter


async def test_every_waiter_gets_an_error_of_its_own() -> None:
    """A failure ends all waits, each with a fresh instance."""
    scope = CallScope()
    waiters = [await _waiting(scope, []) for _ in range(3)]
    scope.fail(lambda: LookupError("over"), abrupt=False)
    await asyncio.wait(waiters, timeout=1)
    errors = [waiter.exception() for waiter in waiters]
    assert all(isinstance(error, LookupError) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_what_is_there_is_delivered_after_the_peer_is_gone() -> None:
    """A failure that is not abrupt fails only a wait for more."""
    scope = CallScope()
    scope.fail(lambda: LookupError("over"), abrupt=False)
    with scope:
        await scope.wait_until(lambda: True)
    with pytest.raises(LookupError):
        await scope.wait_until(lambda: False)


async def test_abrupt_failure_ends_everything() -> None:
    """A deadline that has passed ends the call although its data is there, and cannot be taken back."""
    scope = CallScope()
    scope.fail(lambda: LookupError("gone"), abrupt=False)
    scope.fail(lambda: TimeoutError("late"), abrupt=True)
    scope.fail(lambda: KeyError("later"), abrupt=True)
    with pytest.raises(TimeoutError):
        await scope.wait_until(lambda: True)
    with pytest.raises(TimeoutError), scope:
        pass


async def test_cancelled_waiter_is_forgotten() -> None:
    """A waiter that is cancelled is cancelled, and leaves nothing behind to be woken."""
    scope = CallScope()
    waiter = await _waiting(scope, [])
    waiter.cancel()
    await asyncio.wait({waiter})
    assert waiter.cancelled()
    assert scope._waiters == set()


async def test_waits_that_are_over_at_once_leave_room_for_others() -> None:
    """A task whose waits never last gives up the loop from time to time."""
    scope, turns = CallScope(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(1000):
        await scope.wait_until(lambda: True)
    task.cancel()
    assert 5 < turns < 100
