"""The broker: services beside those of the main connection, in both directions, by id.

go-plugin's GRPCBroker, on either side and in both of its ways: with a socket for each service (`Announcing`) and with
all connections on one (`Knocking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from supervisor.errors import BrokerError
from supervisor.services.broker_stream import ConnInfoStream
from supervisor.terms import Limits
from supervisor.transport.generated import repair_stub
from supervisor.transport.server import OnError, Server

if TYPE_CHECKING:
    from supervisor._proto.plugin import ConnInfo
    from supervisor.transport.channel import Channel

__all__ = ["HOST_SERVICES", "PATIENCE", "Broker", "Dialling", "Offering", "Way"]

HOST_SERVICES: Final = 1
"""The id of the services that a host of this library offers to its plugin: the first that it gives out."""

PATIENCE: Final = 5.0
"""Seconds to wait for the other side: go-plugin's."""

_IDS: Final = 2**32

StubT = TypeVar("StubT")


class Way(Protocol):
    """How services are reached."""

    async def offer(self, service_id: int, server: Server) -> Callable[[], None]:
        """Make a server reachable; returns what is to be called when it has stopped."""
        ...

    async def connect(self, service_id: int, *, patience: float) -> Channel:
        """Connect to a service of the other side's."""
        ...

    def take(self, info: ConnInfo) -> None:
        """Take a message from the other side."""
        ...

    def close(self, why: str) -> None:
        """Fail who waits, and who will."""
        ...


class Dialling(Generic[StubT]):
    """A connection to be made to a service of the other side's: to be awaited, or entered.

    `stub = await dialling` connects until the other side withdraws the service or the plugin ends. `async with dialling
    as stub` hangs up at the end of the block.
    """

    def __init__(self, connect: Callable[[], Awaitable[Channel]], stub: Callable[[Any], StubT]) -> None:
        self._connect = connect
        self._stub = stub
        self._channel: Channel | None = None

    def __await__(self) -> Generator[Any, None, StubT]:
        return self._open().__await__()

    async def _open(self) -> StubT:
        self._channel = channel = await self._connect()
        try:
            return repair_stub(self._stub(channel))
        except BaseException:
            channel.close()
            raise

    async def __aenter__(self) -> StubT:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            self._channel.close()
            await self._channel.wait_closed()


class Offering:
    """Services to be offered to the other side: to be awaited, or entered; either way it gives the id.

    `service_id = await offering` offers them until the plugin ends. `async with offering as service_id` withdraws them at
    the end of the block; calls that are under way then are cut.
    """

    def __init__(self, publish: Callable[[], Awaitable[tuple[Broker, int]]]) -> None:
        self._publish = publish
        self._entered = False
        self._published: tuple[Broker, int] | None = None

    def __await__(self) -> Generator[Any, None, int]:
        return self._open().__await__()

    async def _open(self) -> int:
        if self._entered:
            raise RuntimeError("an offering is good for one offer: call offer() again")
        self._entered = True
        self._published = await self._publish()
        return self._published[1]

    async def __aenter__(self) -> int:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._published is not None:
            broker, service_id = self._published
            await broker.withdraw(service_id)


class Broker:
    """One side's broker for one life of a plugin. What it opened is gone with it."""

    def __init__(
        self,
        infos: ConnInfoStream,
        way: Way,
        *,
        limits: Limits,
        patience: float = PATIENCE,
        on_error: OnError | None = None,
    ) -> None:
        """Prepare.

        Args:
            infos: the stream to the other side; taken over.
            way: how services are reached.
            limits: bounds on services and connections.
            patience: seconds to wait for the other side.
            on_error: told when a handler of a service offered raises something that is not a status.
        """
        self._infos = infos
        self._way = way
        self._limits = limits
        self._patience = patience
        self._on_error = on_error
        self._last_id = 0
        self._offers: dict[int, tuple[Server, Callable[[], None]]] = {}
        self._channels: set[Channel] = set()
        self._connecting = 0
        self._closed = False
        infos.on_info = way.take
        infos.on_closed = way.close

    @property
    def open_connections(self) -> int:
        """Services offered and connections to the other side's, together."""
        self._channels = {channel for channel in self._channels if not channel.is_lost}
        return len(self._offers) + len(self._channels) + self._connecting

    # --- this side's services --------------------------------------------------------------------------------------

    def offer(self, *services: Any) -> Offering:
        """Return services to be offered to the other side under one id; see `Offering`.

        Awaiting or entering it raises:
            BrokerError: the broker is closed, or as much is offered and connected as may be.
        """

        async def publish() -> tuple[Broker, int]:
            return self, await self.publish(*services)

        return Offering(publish)

    async def publish(self, *services: Any) -> int:
        """Offer services until `withdraw` or the end of the broker; returns their id. Otherwise as `offer`."""
        service_id = self._next_id()
        self._check_room(service_id)
        server = Server(services, limits=self._limits, on_error=self._on_error)
        # Before it is reachable, so that a broker which is closed meanwhile stops it.
        self._offers[service_id] = (server, lambda: None)
        try:
            remove = await self._way.offer(service_id, server)
        except BaseException:
            self._offers.pop(service_id, None)
            raise
        if service_id not in self._offers:
            server.abort()
            remove()
            raise BrokerError("broker closed", service_id=service_id)
        self._offers[service_id] = (server, remove)
        return service_id

    def _next_id(self) -> int:
        while True:
            self._last_id = (self._last_id + 1) % _IDS
            if self._last_id and self._last_id not in self._offers:
                return self._last_id

    def _check_room(self, service_id: int | None) -> None:
        if self.open_connections >= self._limits.broker_connections:
            raise BrokerError(
                f"{self._limits.broker_connections} brokered services and connections are open already",
                service_id=service_id,
                hint="withdraw services and hang up when they are not needed, or raise limits.broker_connections",
            )

    async def withdraw(self, service_id: int) -> None:
        """Offer the services of an id no longer, and cut the calls that are under way. Idempotent."""
        offer = self._offers.pop(service_id, None)
        if offer is not None:
            server, remove = offer
            remove()
            await server.stop()

    # --- the other side's services ---------------------------------------------------------------------------------

    def dial(self, service_id: int, stub: Callable[[Any], StubT]) -> Dialling[StubT]:
        """Return a connection to be made to a service of the other side's, as a typed stub; see `Dialling`.

        Awaiting or entering it raises:
            BrokerError: nobody offered the id within five seconds, the broker is closed, or too much is open.
            ConnectError: there is no speaking with it.
        """
        return Dialling(lambda: self.connect(service_id), stub)

    async def connect(self, service_id: int) -> Channel:
        """Connect to a service of the other side's, until it is withdrawn or the broker closed; raises as `dial` does."""
        self._check_room(service_id)
        self._connecting += 1
        try:
            channel = await self._way.connect(service_id, patience=self._patience)
        finally:
            self._connecting -= 1
        if self._closed:
            channel.close()
            raise BrokerError("broker closed", service_id=service_id)
        self._channels.add(channel)
        return channel

    # --- the end ---------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End everything at once. Synchronous and idempotent."""
        self._closed = True
        self._infos.close()
        offers, self._offers = self._offers, {}
        for server, remove in offers.values():
            server.abort()
            remove()
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    async def aclose(self) -> None:
        """Withdraw every service, so that who calls one is told, and hang up. Cancelled, it aborts."""
        try:
            await asyncio.gather(*(self.withdraw(service_id) for service_id in tuple(self._offers)))
        finally:
            with suppress(RuntimeError):  # the loop may be closing
                self.abort()
