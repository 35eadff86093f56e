"""Deadlines pass on time, in virtual time, and cost nothing once they are forgotten."""

from __future__ import annotations

import asyncio

from supervisor.testing.virtual_time import VirtualTimeLoop
from supervisor.transport.engine.timers import DeadlineWheel


class Entry:
    """Notes when it expires."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.expired_at: float | None = None

    def expire(self) -> None:
        self.expired_at = self._loop.time()


def test_deadlines_pass_late_by_a_slice_at_most() -> None:
    """No deadline passes early, none more than 8 ms late, in whatever order they were added."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wheel = DeadlineWheel(loop)
        times = [5.0, 0.001, 0.5, 0.5001, 3600.0, 0.25]
        entries = {at: Entry(loop) for at in times}
        for at, entry in entries.items():
            wheel.add(entry, loop.time() + at)
        begin = loop.time()
        await asyncio.sleep(4000)
        for at, entry in entries.items():
            assert entry.expired_at is not None
            assert at <= entry.expired_at - begin <= at + 1 / 128 + 1e-6

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_forgotten_deadlines_do_not_pass() -> None:
    """A call that was answered is taken out; its neighbours in the same slice expire; a closed wheel is silent."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wheel = DeadlineWheel(loop)
        gone, stays, late = Entry(loop), Entry(loop), Entry(loop)
        entries = wheel.add(gone, loop.time() + 1)
        wheel.add(stays, loop.time() + 1)
        wheel.add(late, loop.time() + 10)
        entries.pop(gone, None)
        entries.pop(gone, None)
        await asyncio.sleep(2)
        wheel.close()
        await asyncio.sleep(20)
        assert (gone.expired_at, late.expired_at) == (None, None)
        assert stays.expired_at is not None

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_entry_may_add_another_when_it_expires() -> None:
    """What expires may begin something that expires too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wheel = DeadlineWheel(loop)
        second = Entry(loop)

        class First(Entry):
            def expire(self) -> None:
                wheel.add(second, loop.time() + 1)

        wheel.add(First(loop), loop.time() + 1)
        await asyncio.sleep(3)
        assert second.expired_at is not None

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
