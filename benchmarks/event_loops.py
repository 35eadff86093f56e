"""Which event loop a process runs on: asyncio's own, or uvloop's."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["run_on"]


def run_on(name: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the loop of this name, `asyncio` or `uvloop`."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if name == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
