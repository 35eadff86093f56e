"""Virtual time: a day of backoff in a blink, the same on every run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualTimeLoop", "run_in_virtual_time"]

ResultT = TypeVar("ResultT")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: moves the clock to the next timer instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready; when nothing is, jump."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever nothing else can run. For code without real I/O and threads."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._virtual.now


def run_in_virtual_time(main: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Run `main()` to its end on a fresh virtual-time loop and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())
