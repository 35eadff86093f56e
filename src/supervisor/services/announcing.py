"""The broker without multiplexing: each service has a socket of its own, and the other side is told its address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from supervisor.address import Address, parse_address
from supervisor.errors import BrokerError, HandshakeError
from supervisor.terms import Limits
from supervisor.transport.server import CheckClient, Server

if TYPE_CHECKING:
    from supervisor._proto.plugin import ConnInfo
    from supervisor.tls import TlsContexts
    from supervisor.transport.channel import Channel
    from supervisor.transport.dial import CheckPeer

__all__ = ["Announcing", "Place"]


_LONGEST: Final = 1024
"""Characters of an announced address that are kept."""


class Place(NamedTuple):
    """Where a service is to listen.

    Attributes:
        where: an address, or a bound socket.
        remove: called when it listens no more.
    """

    where: Address | socket.socket
    remove: Callable[[], None] = lambda: None


class Announcing:
    """Sends the addresses of this side's services and keeps those of the other side's.

    An address may arrive before somebody asks for it or after. go-plugin forgets it five seconds later, or after one
    use; here it is kept for as long as the plugin lives, the latest of them within a limit.
    """

    def __init__(
        self,
        send: Callable[[ConnInfo], None],
        *,
        choose_place: Callable[[], Place],
        limits: Limits,
        tls: TlsContexts | None = None,
        check_address: Callable[[Address], Address] = lambda address: address,
        translate: Callable[[Address], Address] = lambda address: address,
        check_peer: CheckPeer | None = None,
        check_client: CheckClient | None = None,
    ) -> None:
        """Prepare.

        Args:
            send: takes what the other side is to be told.
            choose_place: returns a new place for a service to listen.
            limits: bounds on connections, and on the addresses kept.
            tls: the contexts of the main connection; None when that is plain text.
            check_address: translates an address of the other side's, or refuses it by a HandshakeError.
            translate: returns an address of this side's as the other side sees it.
            check_peer: looks at who listens there.
            check_client: looks at who connects to this side's services.
        """
        self._send = send
        self._choose_place = choose_place
        self._limits = limits
        self._tls = tls
        self._check_address = check_address
        self._translate = translate
        self._check_peer = check_peer
        self._check_client = check_client
        self._servers: set[Server] = set()
        self._infos: dict[int, ConnInfo] = {}
        self._waiters: dict[int, set[asyncio.Future[ConnInfo]]] = {}
        self._closed: str | None = None

    async def offer(self, service_id: int, server: Server) -> Callable[[], None]:
        """Listen for `server` and announce it; returns what is to be called when it has stopped."""
        from supervisor._proto.plugin import ConnInfo  # noqa: PLC0415  # a plugin that offers nothing starts without it

        place = self._choose_place()

        def remove() -> None:
            self._servers.discard(server)
            place.remove()

        self._servers.add(server)
        try:
            address = self._translate(await server.start(place.where, tls=self._tls, check_client=self._admit))
            self._send(ConnInfo(service_id=service_id, network=address.network, address=str(address)))
        except BaseException:
            server.abort()
            remove()
            raise
        return remove

    def _admit(self, connected: socket.socket) -> None:
        if self._check_client is not None:
            self._check_client(connected)
        if sum(server.connections for server in self._servers) >= self._limits.broker_connections:
            raise BrokerError("there are as many connections to brokered services as limits.broker_connections allows")

    async def connect(self, service_id: int, *, patience: float) -> Channel:
        """Connect to a service of the other side's.

        Raises:
            BrokerError: nobody offers it, or not at an address that may be used.
            ConnectError: nobody listens there.
        """
        info = await self._wait_for(service_id, patience)
        try:
            address = self._check_address(parse_address(info.network, info.address))
        except HandshakeError as error:
            raise BrokerError(
                f"service {service_id} is announced where it cannot be: {error.args[0]}", service_id=service_id
            ) from error
        from supervisor.transport.dial import dial  # noqa: PLC0415 - a plugin that dials nobody starts without it

        return await dial(address, timeout=patience, limits=self._limits, check_peer=self._check_peer, tls=self._tls)

    def take(self, info: ConnInfo) -> None:
        """Take an announcement; a knock means nothing without multiplexing."""
        if info.knock.knock:
            return
        kind = type(info)
        self._infos.pop(info.service_id, None)
        while len(self._infos) >= self._limits.broker_connections:
            self._infos.pop(next(iter(self._infos)))
        # A copy, cut: no address is as long, and what a plugin sends is not kept for as long as it lives.
        info = kind(service_id=info.service_id, network=info.network[:_LONGEST], address=info.address[:_LONGEST])
        self._infos[info.service_id] = info
        for waiter in self._waiters.get(info.service_id, ()):
            if not waiter.done():
                waiter.set_result(info)

    def forget(self) -> None:
        """Forget what the other side has announced: it is another one from now on, whose ids begin anew."""
        self._infos.clear()

    def close(self, why: str) -> None:
        """Let nobody wait any more."""
        self._closed = why
        for service_id, waiters in self._waiters.items():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(BrokerError(why, service_id=service_id))

    async def _wait_for(self, service_id: int, patience: float) -> ConnInfo:
        if (known := self._infos.get(service_id)) is not None:
            return known
        if self._closed is not None:
            raise BrokerError(self._closed, service_id=service_id)
        waiter: asyncio.Future[ConnInfo] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(service_id, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except TimeoutError:
            raise BrokerError(
                "timeout waiting for connection info",
                service_id=service_id,
                hint=f"nobody offers service {service_id}",
            ) from None
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(service_id, None)
