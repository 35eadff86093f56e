"""How connections reach the plugin: each by itself at its sockets, or all as streams of the first one."""

from __future__ import annotations

import asyncio
import os.path
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from supervisor.address import UnixAddress
from supervisor.sdk.host_request import HostRequest
from supervisor.sdk.listener import Listener, bind_listener
from supervisor.services.announcing import Announcing, Place
from supervisor.services.broker import Broker
from supervisor.services.broker_stream import ConnInfoStream
from supervisor.terms import Limits
from supervisor.transport.server import OnError, OnRefused, Server

if TYPE_CHECKING:
    from supervisor.services.knocking import Knocking
    from supervisor.tls import TlsContexts
    from supervisor.transport.yamux.connection import Multiplexer

__all__ = ["Doors"]


class Doors:
    """The plugin's main socket and its broker, as the host wants them.

    Attributes:
        broker: for services beside the main ones, in both directions.
    """

    def __init__(
        self,
        server: Server,
        listener: Listener,
        request: HostRequest,
        infos: ConnInfoStream,
        *,
        limits: Limits,
        tls: TlsContexts | None,
        on_error: OnError,
        on_refused: OnRefused,
    ) -> None:
        """Prepare.

        Args:
            server: the plugin's main server.
            listener: its socket.
            request: what the host wants.
            infos: the broker's stream to the host.
            limits: bounds on connections.
            tls: for every connection, in both roles; None for plain text.
            on_error: told when a handler of a service that is offered fails.
            on_refused: told why a client was turned away.
        """
        self._server = server
        self._socket = listener.socket
        self._tls = tls
        self._on_refused = on_refused
        self._multiplexer: Multiplexer | None = None
        self._raw: asyncio.Server | None = None
        way: Announcing | Knocking
        if request.multiplex:
            from supervisor.services.knocking import Knocking  # noqa: PLC0415  # yamux is loaded where it is spoken
            from supervisor.transport.yamux.connection import Multiplexer  # noqa: PLC0415

            self._multiplexer = Multiplexer(client=False, limit=limits.broker_connections + 1)
            way = Knocking(
                infos.send,
                self._multiplexer,
                address=listener.address,
                limits=limits,
                tls=tls,
                main=server.attach(tls=tls, on_refused=on_refused),
            )
        else:
            choose_place = _places_like(listener, request)
            way = announcing = Announcing(infos.send, choose_place=choose_place, limits=limits, tls=tls)
            infos.on_another = announcing.forget
        self.broker = Broker(infos, way, limits=limits, on_error=on_error)

    async def open(self, on_deserted: Callable[[], None]) -> None:
        """Let the host in.

        Args:
            on_deserted: called when nobody can reach the plugin any more: the one connection that is multiplexed has
                ended.
        """
        if self._multiplexer is None:
            await self._server.start(self._socket, tls=self._tls, on_refused=self._on_refused)
            return
        self._multiplexer.closed.add_done_callback(lambda _: on_deserted())
        loop = asyncio.get_running_loop()
        if self._socket.family == socket.AF_UNIX:
            self._raw = await loop.create_unix_server(self._take_first, sock=self._socket)
        else:
            self._raw = await loop.create_server(self._take_first, sock=self._socket)

    def _take_first(self) -> asyncio.Protocol:
        """Return the multiplexer for the first connection, as go-plugin does; later ones are hung up on."""
        raw, self._raw = self._raw, None
        if raw is None:
            return _Refusal()
        # asyncio may be in the middle of accepting.
        asyncio.get_running_loop().call_soon(raw.close)
        assert self._multiplexer is not None
        return self._multiplexer

    def close(self) -> None:
        """End what is left of the multiplexed connection. Idempotent."""
        self.broker.abort()
        if self._raw is not None:
            self._raw.close()
        if self._multiplexer is not None:
            self._multiplexer.close()


class _Refusal(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Do it."""
        transport.close()


def _places_like(listener: Listener, request: HostRequest) -> Callable[[], Place]:
    """Return what binds a socket beside the main one, or in the host's range of ports, with the same permissions."""
    network = listener.address.network
    if isinstance(listener.address, UnixAddress):
        request = request._replace(socket_directory=os.path.dirname(listener.address.path))  # noqa: PTH120  # pathlib costs 3 ms

    def choose_place() -> Place:
        bound = bind_listener(request, network)
        return Place(bound.socket, bound.remove)

    return choose_place
