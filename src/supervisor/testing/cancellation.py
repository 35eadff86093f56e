"""Cancel a coroutine at each of its steps, one run after another, and look what it leaves behind.

    async def test_copy_is_safe_to_cancel():
        async def nothing_left():
            assert not open_files()

        await cancel_at_every_step(copy_file, check=nothing_left)

A clean-up that is right at one point of suspension says nothing about the next one. So the coroutine runs as a task of
its own as often as it has steps, is cancelled at the first one, at the second one ..., until it ends before its turn.
Each run must end, hand the cancellation on to its caller, and leave no task behind; `check` looks at everything else.

The coroutine should do the same in each run. One that waits for real processes and sockets hardly does: that makes the
sweep a sample, and no less valid.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, Final

import anyio

__all__ = ["Moment", "Outcome", "Run", "Style", "cancel_at", "cancel_at_every_step"]

Make = Callable[[], Coroutine[Any, Any, Any]]

_ABANDON: Final = 100
"""Cancellations after which a task that does not end is left alone."""


class Style(enum.Enum):
    """By what the coroutine is cancelled; a second cancellation is always native."""

    NATIVE = enum.auto()
    """`task.cancel()`: once, at the await that it meets."""
    SCOPE = enum.auto()
    """A scope of anyio: at each await, again and again, until the scope is left."""
    TIMEOUT = enum.auto()
    """`asyncio.timeout`: once, and turned into a `TimeoutError` outside."""


class Moment(enum.Enum):
    """What is counted as a step."""

    SUSPENDED = enum.auto()
    """The coroutine has begun to wait for something that is not there yet."""
    WOKEN = enum.auto()
    """What it waited for is there, and it does not know yet: the result of that await is lost."""
    TURN = enum.auto()
    """A turn of the event loop: finds what depends on how far *other* tasks are. Keeps the loop spinning."""


class Outcome(enum.Enum):
    """What became of one run."""

    CANCELLED = enum.auto()
    """The caller got the cancellation."""
    FINISHED = enum.auto()
    """It ended before its step, or before a scope or timeout could deliver the cancellation."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        step: the step at which it was cancelled, from 1.
        reached: whether it got that far.
        outcome: what became of it.
        where: the line at which it waited then, as `file:line in function`.
    """

    step: int
    reached: bool
    outcome: Outcome
    where: str

    def __str__(self) -> str:
        return f"cancelled at step {self.step}, {self.where}" if self.reached else f"ended before step {self.step}"


async def cancel_at_every_step(
    make: Make,
    *,
    style: Style = Style.NATIVE,
    moment: Moment = Moment.SUSPENDED,
    twice_after: int | None = None,
    every: int = 1,
    check: Callable[[], Awaitable[None]] | None = None,
    tasks_may_stay: bool = False,
    timeout: float = 30.0,
) -> tuple[Run, ...]:
    """Run `make()` again and again, each time cancelled one step later, until it ends first.

    Args:
        make: returns a fresh coroutine for each run.
        style: by what it is cancelled.
        moment: what counts as a step.
        twice_after: cancel a second time, natively, so many steps after the first; None for once.
        every: how many steps to go on after each run; more than 1 is a coarser sweep.
        check: called after each run; raises when something is wrong.
        tasks_may_stay: whether tasks that the coroutine started may outlive it.
        timeout: seconds within which each run must end, and again what it leaves.

    Returns:
        The runs, of which the last one ended before its step.

    Raises:
        AssertionError: a run hung, swallowed its cancellation, raised something else instead, or left tasks. A note
            says at which step; so does a note on whatever `check` raises.
    """
    runs: list[Run] = []
    for step in itertools.count(1, every):
        run = await cancel_at(
            make(),
            step,
            style=style,
            moment=moment,
            twice_after=twice_after,
            tasks_may_stay=tasks_may_stay,
            timeout=timeout,
        )
        runs.append(run)
        if check is not None:
            try:
                await check()
            except Exception as error:
                error.add_note(f"{run} ({style.name}, {moment.name}, twice after {twice_after})")
                raise
        if not run.reached:
            break
    return tuple(runs)


async def cancel_at(
    coroutine: Coroutine[Any, Any, Any],
    step: int,
    *,
    style: Style = Style.NATIVE,
    moment: Moment = Moment.SUSPENDED,
    twice_after: int | None = None,
    tasks_may_stay: bool = False,
    timeout: float = 30.0,
) -> Run:
    """Run `coroutine` as a task and cancel it at one step; `cancel_at_every_step` says the rest.

    Raises:
        Exception: what the coroutine itself raised before it was cancelled.
    """
    before = asyncio.all_tasks()
    steps = _Steps(coroutine, moment, first=step, second=None if twice_after is None else step + twice_after)
    task = asyncio.create_task(_STYLES[style](steps), name=f"cancelled at step {step}")
    steps.begin(task)
    try:
        await _await_end(task, steps, timeout)
        run = Run(step, steps.reached, _judge(task, steps), steps.where)
        if not tasks_may_stay:
            await _await_tasks(asyncio.all_tasks() - before, timeout)
    except Exception as error:
        error.add_note(f"{Run(step, steps.reached, Outcome.CANCELLED, steps.where)} ({style.name}, {moment.name})")
        raise
    finally:
        steps.end()
    return run


async def _await_end(task: asyncio.Task[bool], steps: _Steps, timeout: float) -> None:
    try:
        await asyncio.wait({task}, timeout=timeout)
        if not task.done():
            where = _location(steps.coroutine)
            raise AssertionError(f"it did not end within {timeout:g} s and waits at {where}")
    finally:
        # The task is this function's own: neither a hang nor the caller's own cancellation may leave it running.
        for _ in range(_ABANDON):
            if task.done():
                break
            task.cancel()
            await asyncio.sleep(0)


async def _await_tasks(left: set[asyncio.Task[Any]], timeout: float) -> None:
    if left:
        _, left = await asyncio.wait(left, timeout=timeout)
    assert not left, f"tasks outlived it: {', '.join(sorted(map(repr, left)))}"


def _judge(task: asyncio.Task[bool], steps: _Steps) -> Outcome:
    if task.cancelled():
        assert steps.reached, "it was cancelled by somebody else"
        return Outcome.CANCELLED
    if (error := task.exception()) is not None:
        if not steps.reached or isinstance(error, AssertionError):
            raise error
        raise AssertionError(f"it raised instead of handing the cancellation on: {error!r}") from error
    if task.result():
        return Outcome.CANCELLED
    assert not steps.delivered, "it swallowed the cancellation"
    return Outcome.FINISHED


class _Steps:
    """Awaits a coroutine, counts its steps and cancels at one or two of them."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], moment: Moment, *, first: int, second: int | None) -> None:
        self.coroutine = coroutine
        self.cancel: Callable[[], object] = lambda: None
        self.reached = False
        self.delivered = False
        self.where = ""
        self.twice = second is not None
        self._over = False
        self._moment = moment
        self._first = first
        self._second = second
        self._count = 0
        self._task: asyncio.Task[bool] | None = None
        self._turn: asyncio.Handle | None = None

    def begin(self, task: asyncio.Task[bool]) -> None:
        """Take the task that awaits this."""
        self._task = task
        if self._moment is Moment.TURN:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def end(self) -> None:
        """Stop counting."""
        self._over = True
        if self._turn is not None:
            self._turn.cancel()
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = partial(self.coroutine.send, None)
        while True:
            try:
                awaited = resume()
            except StopIteration as end:
                self._over = True
                return end.value
            except BaseException:
                self._over = True
                raise
            self._suspend(awaited)
            try:
                result = yield awaited
            except GeneratorExit:
                raise  # `end` closes the coroutine
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is the coroutine's
                self.delivered = self.delivered or (self.reached and isinstance(error, asyncio.CancelledError))
                resume = partial(self.coroutine.throw, error)
            else:
                resume = partial(self.coroutine.send, result)

    def _suspend(self, awaited: Any) -> None:
        if self._moment is Moment.SUSPENDED:
            self._take_step()  # the task is about to wait: the cancellation meets it there
        elif self._moment is Moment.WOKEN:
            # Before the task's own callback, which is added after this.
            if awaited is None:
                asyncio.get_running_loop().call_soon(self._take_step)
            else:
                awaited.add_done_callback(lambda _: self._take_step())

    def _take_turn(self) -> None:
        self._take_step()
        if not self._over:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_step(self) -> None:
        self._count += 1
        if self._over or self._task is None:
            return
        if self._count == self._first:
            self.reached = True
            self.where = _location(self.coroutine)
            self.cancel()
        elif self._count == self._second:
            self._task.cancel()


def _location(coroutine: Any) -> str:
    """Return the innermost line at which a suspended coroutine waits."""
    frame = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    if frame is None:
        return "before its first line"
    code = frame.f_code
    return f"{PurePath(code.co_filename).name}:{frame.f_lineno} in {code.co_qualname}"


# --- styles: each returns whether the cancellation came out of the coroutine and ended here ---


async def _run_native(steps: _Steps) -> bool:
    task = asyncio.current_task()
    assert task is not None
    steps.cancel = task.cancel
    await steps
    return False


async def _run_in_scope(steps: _Steps) -> bool:
    with anyio.CancelScope() as scope:
        steps.cancel = scope.cancel
        await steps
    if not steps.twice:
        await _assert_nothing_leaks()
    return scope.cancelled_caught


async def _run_in_timeout(steps: _Steps) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as scope:
            steps.cancel = lambda: scope.reschedule(loop.time())
            await steps
        taken = False
    except TimeoutError:
        if not scope.expired():
            raise
        taken = True
    if not steps.twice:
        await _assert_nothing_leaks()
    return taken


async def _assert_nothing_leaks() -> None:
    """What cancelled the coroutine has been left: nothing after it may be cancelled."""
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        raise AssertionError("the cancellation leaked out of the scope that it belongs to") from None


_STYLES: Final = {Style.NATIVE: _run_native, Style.SCOPE: _run_in_scope, Style.TIMEOUT: _run_in_timeout}
