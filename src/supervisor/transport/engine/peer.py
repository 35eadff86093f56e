"""The other end of a connection, in the shape of `grpclib.protocol.Peer`."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Peer"]


class Peer:
    """What is known about a connection's other end."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport

    def addr(self) -> Any:
        """Return the address of the socket's other end."""
        return None if self._transport is None else self._transport.get_extra_info("peername")

    def cert(self) -> Any:
        """Return the peer's certificate, as `ssl.SSLSocket.getpeercert` does, on a connection with TLS."""
        ssl_object = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return None if ssl_object is None else ssl_object.getpeercert()
