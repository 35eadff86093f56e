"""The event loop that a plugin runs."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

from supervisor.errors import ConfigurationError

__all__ = ["choose_loop"]


def choose_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop of that name; None for asyncio's own choice.

    Raises:
        ConfigurationError: there is none of that name, or it is not installed.
    """
    if name == "asyncio":
        return None
    if name != "uvloop":
        raise ConfigurationError(f"there is no event loop {name!r}", hint="asyncio and uvloop are known")
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError as error:
        raise ConfigurationError(
            "uvloop is not installed", hint="pip install 'plugin-supervisor[speed]', or leave event_loop alone"
        ) from error
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
