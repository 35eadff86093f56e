"""What a service may ask of the plugin that it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

from supervisor.sdk.log_sink import LogSink
from supervisor.services.health import PLUGIN_SERVICE, HealthService

__all__ = ["PluginContext", "current"]


class PluginContext:
    """The running plugin, as its own services see it. May be used from any thread.

    Attributes:
        version: the version of the application's protocol that was negotiated.
    """

    def __init__(self, *, version: int, health: HealthService, sink: LogSink, stop: Callable[[], None]) -> None:
        self.version = version
        self._loop = asyncio.get_running_loop()
        self._health = health
        self._sink = sink
        self._stop = stop

    @property
    def log_level(self) -> int:
        """The level from which the host wants records now, as stdlib logging's number."""
        return self._sink.level

    def set_serving(self, serving: bool, *, service: str = PLUGIN_SERVICE) -> None:
        """Say whether the plugin, or one `service` of it, is willing to take calls; the host stops sending them."""
        self._call_soon(self._health.set_serving, service, serving)

    def stop(self) -> None:
        """Ask the plugin to end as if the host had: the calls under way are finished first."""
        self._call_soon(self._stop)

    def _call_soon(self, function: Callable[..., None], *arguments: object) -> None:
        # The loop is closed once the plugin has ended: there is nobody left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


_current: ContextVar[PluginContext] = ContextVar("plugin")


def current() -> PluginContext:
    """Return the plugin that this code runs in.

    Raises:
        LookupError: this code does not run in a plugin's handler.
    """
    return _current.get()


def enter(context: PluginContext) -> None:
    """Make `context` the current one of this task and of what it starts."""
    _current.set(context)
