"""What a service may ask of the plugin that it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from supervisor.sdk.host_services import HostServices
from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.negotiation import Servicer
from supervisor.services.broker import Broker, Dialling, Offering
from supervisor.services.health import PLUGIN_SERVICE, HealthService

__all__ = ["PluginContext", "current"]

StubT = TypeVar("StubT")


class PluginContext:
    """The running plugin, as its own services see it. What is not awaited may be used from any thread.

    Attributes:
        version: the version of the application's protocol that was negotiated.
    """

    def __init__(
        self,
        *,
        version: int,
        health: HealthService,
        sink: LogSink,
        stop: Callable[[], None],
        broker: Broker,
        host_services: HostServices,
    ) -> None:
        self.version = version
        self._broker = broker
        self._host_services = host_services
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

    async def host(self, stub: Callable[[Any], StubT]) -> StubT:
        """Return a typed stub for a service that the host offers to this plugin; it works for as long as the plugin.

        Raises:
            BrokerError: the host offers none; hosts built with go-plugin never do, they pass ids in calls.
        """
        return await self._host_services.get(stub)

    def offer(self, *services: Servicer) -> Offering:
        """Offer servicers to the host, to be passed in an answer: `Lent(service_id=await current().offer(Adder()))`.

        Awaited, they are offered until the plugin ends; entered, until the end of the block, where calls that are under
        way are cut.

        Awaiting or entering it raises:
            BrokerError: the broker is closed, or as much is offered and connected as `limits` allow.
        """
        return self._broker.offer(*services)

    def dial(self, service_id: int, stub: Callable[[Any], StubT]) -> Dialling[StubT]:
        """Connect to a service that the host passed by id: `adder = await current().dial(id, AdderStub)`, or entered.

        Awaited, it is connected until the host withdraws the service; entered, until the end of the block.

        Awaiting or entering it raises:
            BrokerError: nobody offered the id within five seconds, or the broker is closed.
            ConnectError: nobody is there.
        """
        return self._broker.dial(service_id, stub)

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
