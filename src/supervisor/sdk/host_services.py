"""What the host offers to its plugin: typed stubs on one connection, made when the first is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.errors import BrokerError
from supervisor.services.broker import Broker
from supervisor.transport.generated import repair_stub

if TYPE_CHECKING:
    from supervisor.transport.channel import Channel

__all__ = ["HostServices"]

StubT = TypeVar("StubT")


class HostServices:
    """The host's services, which are there for as long as the plugin lives."""

    def __init__(self, broker: Broker, service_id: int | None) -> None:
        """Prepare.

        Args:
            broker: the plugin's broker.
            service_id: under which id the host offers them; None when it offers none.
        """
        self._broker = broker
        self._service_id = service_id
        self._channel: Channel | None = None
        self._turn = asyncio.Lock()

    async def get(self, stub: Callable[[Any], StubT]) -> StubT:
        """Return a stub.

        Raises:
            BrokerError: the host offers no services, or not under the id that it announced.
        """
        if self._service_id is None:
            raise BrokerError(
                "the host offers no services",
                hint="a host of this library does so by Supervisor(services=[...]); others pass an id in a call",
            )
        async with self._turn:
            if self._channel is None or self._channel.is_lost:
                self._channel = await self._broker.connect(self._service_id)
        return repair_stub(stub(self._channel))
