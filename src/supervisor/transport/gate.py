"""Who may connect to a server: looked at before a byte is exchanged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from supervisor.errors import SupervisorError, TransportError

__all__ = ["CheckClient", "Gate", "OnRefused"]

CheckClient = Callable[["socket.socket"], None]
"""Looks at the socket of a client that has connected (`SO_PEERCRED` ...); raises a SupervisorError to turn it away."""

OnRefused = Callable[[TransportError], None]
"""Told why a client was turned away before it could say anything."""


class Gate(asyncio.Protocol):
    """What an accepted connection is given first; gives way to the protocol that `admit` returns."""

    def __init__(
        self, check: CheckClient, admit: Callable[[], asyncio.Protocol], *, on_refused: OnRefused | None = None
    ) -> None:
        self._check = check
        self._admit = admit
        self._on_refused = on_refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at the client, and hang up or step aside; a connection in memory has nothing to look at."""
        sock = transport.get_extra_info("socket")
        try:
            if sock is not None:
                self._check(sock)
        except SupervisorError as error:
            transport.abort()  # type: ignore[attr-defined]  # a stream's transport
            if self._on_refused is not None:
                self._on_refused(TransportError(f"a client was turned away: {error.args[0]}", phase="accept"))
        else:
            protocol = self._admit()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
