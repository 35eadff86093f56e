"""Waking a task from any thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["Wakeup"]


class Wakeup:
    """An event that any thread may set and one task waits for; many sets between two waits cost one wake-up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._pending = False

    def set(self) -> None:
        """Have `wait` return, now or the next time; does nothing once the loop is closed."""
        if not self._pending:
            self._pending = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait for `set`. Whatever was done before that `set` is visible afterwards."""
        await self._event.wait()
        self._event.clear()
        # Last: a thread that sees it still pending has done its work before this task looks.
        self._pending = False
