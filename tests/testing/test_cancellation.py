"""The cancellation sweep finds each kind of bug that it is there for, and nothing in code that has none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import pytest

from supervisor.testing.cancellation import Moment, Outcome, Style, cancel_at, cancel_at_every_step
from supervisor.testing.virtual_time import run_in_virtual_time


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_task_left: None) -> None:
    """Hold every test here to leaving nothing behind: a sweep cleans up after what it finds."""


class Pool:
    """Something that is taken and given back, with a wait each."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self) -> None:
        await asyncio.sleep(0)
        self.taken += 1

    async def give_back(self) -> None:
        await asyncio.sleep(0)
        self.taken -= 1

    def drop(self) -> None:
        self.taken -= 1

    async def check(self) -> None:
        taken, self.taken = self.taken, 0
        assert not taken, "something was not given back"


async def careful(pool: Pool) -> None:
    """Give back without waiting."""
    await pool.take()
    try:
        await asyncio.sleep(0)
    finally:
        pool.drop()


async def with_a_gap(pool: Pool) -> None:
    """Wait between taking and protecting."""
    await pool.take()
    await asyncio.sleep(0)
    try:
        await asyncio.sleep(0)
    finally:
        pool.drop()


async def waiting_in_clean_up(pool: Pool) -> None:
    """Wait in the clean-up, where a cancellation cuts it short."""
    await pool.take()
    try:
        await asyncio.sleep(0)
    finally:
        await pool.give_back()


async def trying_twice(pool: Pool) -> None:
    """Wait in the clean-up and begin again when that is cut short, once."""
    await pool.take()
    try:
        await asyncio.sleep(0)
    finally:
        try:
            await pool.give_back()
        except asyncio.CancelledError:
            await pool.give_back()
            raise


async def waiting_behind_a_shield(pool: Pool) -> None:
    """Wait in the clean-up behind a shield, which a native cancellation does not see."""
    await pool.take()
    try:
        await asyncio.sleep(0)
    finally:
        with anyio.CancelScope(shield=True):
            await pool.give_back()


@pytest.mark.parametrize("twice_after", [None, 1, 2])
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("style", Style)
async def test_careful_code_passes_every_sweep(style: Style, moment: Moment, twice_after: int | None) -> None:
    """Code without a bug passes, cancelled by anything, at any moment, once or twice."""
    pool = Pool()
    runs = await cancel_at_every_step(
        lambda: careful(pool), style=style, moment=moment, twice_after=twice_after, check=pool.check
    )
    assert [run.step for run in runs] == list(range(1, len(runs) + 1))
    assert all(run.reached for run in runs[:-1])
    assert (runs[-1].reached, runs[-1].outcome) == (False, Outcome.FINISHED)


async def test_every_suspension_is_met_once() -> None:
    """The sweep has one run for each suspension and one that ends first; each names the line where it was."""
    runs = await cancel_at_every_step(lambda: careful(Pool()))
    assert [run.outcome for run in runs] == [Outcome.CANCELLED, Outcome.CANCELLED, Outcome.FINISHED]
    assert "sleep" in runs[0].where
    assert str(runs[0]).startswith("cancelled at step 1, tasks.py:")
    assert str(runs[2]) == "ended before step 3"


@pytest.mark.parametrize("moment", Moment)
async def test_gap_is_found(moment: Moment) -> None:
    """A wait between acquiring and protecting is found by a single cancellation, and the note says where."""
    pool = Pool()
    with pytest.raises(AssertionError, match="not given back") as caught:
        await cancel_at_every_step(lambda: with_a_gap(pool), moment=moment, check=pool.check)
    assert "cancelled at step 2" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("code", "style", "twice_after", "found"),
    [
        (waiting_in_clean_up, Style.NATIVE, None, True),
        (waiting_in_clean_up, Style.SCOPE, None, True),
        (trying_twice, Style.NATIVE, None, False),
        (trying_twice, Style.TIMEOUT, None, False),
        (trying_twice, Style.NATIVE, 1, True),
        (trying_twice, Style.SCOPE, None, True),
        (waiting_behind_a_shield, Style.SCOPE, None, False),
        (waiting_behind_a_shield, Style.SCOPE, 1, True),
        (waiting_behind_a_shield, Style.NATIVE, None, True),
        (waiting_behind_a_shield, Style.TIMEOUT, None, True),
    ],
)
async def test_clean_up_that_waits_is_found_by_what_reaches_it(
    code: Callable[[Pool], Coroutine[Any, Any, None]], style: Style, twice_after: int | None, found: bool
) -> None:
    """A clean-up that waits falls to what cuts it short: any cancellation, only a second one, all but a scope's."""
    pool = Pool()
    with pytest.raises(AssertionError) if found else contextlib.nullcontext():
        await cancel_at_every_step(lambda: code(pool), style=style, twice_after=twice_after, check=pool.check)


async def test_lost_result_is_found_only_when_woken() -> None:
    """What an await hands over is lost when the cancellation comes between the hand-over and the waiter."""
    pool = Pool()

    async def receive() -> None:
        loop = asyncio.get_running_loop()
        handed_over = loop.create_future()

        def hand_over() -> None:
            if not handed_over.done():
                pool.taken += 1
                handed_over.set_result(None)

        loop.call_soon(hand_over)
        await handed_over
        pool.drop()

    await cancel_at_every_step(receive, check=pool.check)
    with pytest.raises(AssertionError, match="not given back"):
        await cancel_at_every_step(receive, moment=Moment.WOKEN, check=pool.check)


async def test_bug_in_step_with_another_task_is_found_by_turns() -> None:
    """A single wait for another task's work has as many points to be cancelled as that work has turns."""
    pool = Pool()

    async def work() -> None:
        await asyncio.sleep(0)
        pool.taken += 1  # and half way through, the waiter's cancellation would leave this
        await asyncio.sleep(0)
        pool.taken -= 1

    async def wait_for_work() -> None:
        await asyncio.create_task(work())

    await cancel_at_every_step(wait_for_work, check=pool.check)
    with pytest.raises(AssertionError, match="not given back"):
        await cancel_at_every_step(wait_for_work, moment=Moment.TURN, check=pool.check)


@pytest.mark.parametrize("style", Style)
async def test_swallowed_cancellation_is_found(style: Style) -> None:
    """Code that catches its cancellation and goes on as if nothing were is found."""

    async def swallow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="swallowed"):
        await cancel_at_every_step(swallow, style=style)


async def test_another_error_in_its_place_is_found() -> None:
    """Code that raises something else when it is cancelled is found, with what it raised as the cause."""

    async def stumble() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            deque[int]().popleft()

    with pytest.raises(AssertionError, match="raised instead") as caught:
        await cancel_at(stumble(), 1)
    assert isinstance(caught.value.__cause__, IndexError)


async def test_hang_is_found_and_ended() -> None:
    """Code that waits for ever once it is cancelled fails the sweep in time and is not left running."""

    async def hang() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match=r"did not end within 0\.05 s and waits at test_cancellation\.py"):
        await cancel_at(hang(), 1, timeout=0.05)


async def test_left_task_is_found_unless_allowed() -> None:
    """A task that outlives the cancelled coroutine is named, or may stay where that is meant."""
    left: list[asyncio.Task[None]] = []

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def leave_a_task() -> None:
        left.append(asyncio.create_task(wait(), name="left behind"))
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="left behind"):
        await cancel_at(leave_a_task(), 1, timeout=0.05)
    run = await cancel_at(leave_a_task(), 1, timeout=0.05, tasks_may_stay=True)
    assert run.outcome is Outcome.CANCELLED
    for task in left:
        task.cancel()


@pytest.mark.parametrize("style", [Style.SCOPE, Style.TIMEOUT])
async def test_leaking_cancellation_is_found(style: Style) -> None:
    """Code after which its caller is cancelled a second time, for no reason of its own, is found."""

    async def leak() -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(AssertionError, match="leaked"):
        await cancel_at(leak(), 1, style=style)


async def test_error_before_the_step_is_the_codes_own() -> None:
    """What the coroutine raises uncancelled comes out as it is."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cancel_at(fail(), 2)


async def test_coarse_sweep_takes_every_other_step() -> None:
    """`every` says how many steps apart the runs are."""

    async def walk() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    runs = await cancel_at_every_step(walk, every=4)
    assert [(run.step, run.reached) for run in runs] == [(1, True), (5, True), (9, True), (13, False)]


async def test_objects_that_are_awaited_in_many_ways_are_driven() -> None:
    """Async generators, context managers, groups and timers behave under a sweep as they do without."""

    async def numbers() -> AsyncGenerator[int, None]:
        for number in range(2):
            await asyncio.sleep(0)
            yield number

    async def use_all() -> None:
        async with contextlib.aclosing(numbers()) as source:
            assert [number async for number in source] == [0, 1]
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asyncio.sleep, 0)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught

    for style in Style:
        runs = await cancel_at_every_step(use_all, style=style)
        assert len(runs) > 4


def test_sweep_runs_in_virtual_time() -> None:
    """A coroutine that sleeps for hours is swept in no time on the virtual-time loop."""

    async def sleep_long() -> None:
        for _ in range(3):
            await asyncio.sleep(3600)

    async def main() -> int:
        return len(await cancel_at_every_step(sleep_long, timeout=100_000))

    assert run_in_virtual_time(main) == 4


async def test_cancelled_sweep_ends_its_run() -> None:
    """A sweep that is itself cancelled does not leave the coroutine running."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    sweep = asyncio.create_task(cancel_at(wait(), 100))
    await begun.wait()
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
