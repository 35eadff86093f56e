"""A connection inside this process: two transports that hand each other's bytes on, in order, one loop turn later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakValueDictionary

from supervisor.address import MemoryAddress
from supervisor.errors import TransportError

__all__ = ["MemoryListener", "MemoryTransport", "connect_memory", "join_memory"]

_HIGH_WATER = 64 * 1024

_listeners: WeakValueDictionary[str, MemoryListener] = WeakValueDictionary()
"""This process's memory addresses, as the file system holds those of unix sockets: one namespace for all who share it.
A name lives as long as its listener."""


class MemoryTransport(asyncio.Transport):
    """One end. Bytes reach the other end's protocol in a later turn of the loop, as they would through a socket."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": "memory", "sockname": "memory"})
        self.peer: MemoryTransport | None = None
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._outbox = bytearray()
        self._scheduled = False
        self._closing = False
        self._lost = False
        self._reading = True
        self._told_to_pause = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that gets what the other end writes."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change it."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes; those written after the end are dropped."""
        if self._closing:
            return
        self._outbox += data
        self.schedule()
        if len(self._outbox) > _HIGH_WATER and not self._told_to_pause:
            self._told_to_pause = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the other end has not taken."""
        return len(self._outbox)

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether this end takes bytes."""
        return self._reading

    def pause_reading(self) -> None:
        """Take no more bytes; they wait at the other end."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._reading = True
        if self.peer is not None:
            self.peer.schedule()

    def close(self) -> None:
        """Close when the other end has taken what was written."""
        self._closing = True
        self.schedule()

    def abort(self) -> None:
        """Close now; what was not taken is lost."""
        self._outbox.clear()
        self.close()

    def receive(self, data: bytes) -> None:
        """Take bytes from the other end."""
        if not self._closing:
            self._protocol.data_received(data)

    def schedule(self) -> None:
        """Hand on what there is in the loop's next turn."""
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._outbox and self.peer is not None and self.peer.is_reading():
            data, self._outbox = bytes(self._outbox), bytearray()
            self.peer.receive(data)
            if self._told_to_pause and not self._closing:
                self._told_to_pause = False
                self._protocol.resume_writing()
        if self._closing and not self._outbox and not self._lost:
            self._lost = True
            peer, self.peer = self.peer, None
            self._protocol.connection_lost(None)
            if peer is not None:
                peer.abort()


class MemoryListener:
    """Accepts connections to a memory address until it is closed."""

    def __init__(self, address: MemoryAddress, factory: Callable[[], asyncio.Protocol]) -> None:
        """Listen.

        Raises:
            TransportError: the name is taken.
        """
        if address.name in _listeners:
            raise TransportError(f"cannot listen at memory address {address}: it is in use", phase="listen")
        self._address = address
        self._factory = factory
        _listeners[address.name] = self

    def accept(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to a new one of the listener's."""
        join_memory(protocol, self._factory())

    def close(self) -> None:
        """Refuse connections from now on; those that exist stay. Idempotent."""
        if _listeners.get(self._address.name) is self:
            del _listeners[self._address.name]


def connect_memory(address: MemoryAddress, protocol: asyncio.Protocol) -> None:
    """Connect `protocol` to the listener at `address`.

    Raises:
        ConnectionRefusedError: nobody listens there.
    """
    listener = _listeners.get(address.name)
    if listener is None:
        raise ConnectionRefusedError(f"nobody listens at {address}")
    listener.accept(protocol)


def join_memory(client: asyncio.Protocol, server: asyncio.Protocol) -> None:
    """Connect two protocols with each other, without an address."""
    ends = MemoryTransport(client), MemoryTransport(server)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    client.connection_made(ends[0])
    server.connection_made(ends[1])
