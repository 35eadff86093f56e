"""The connections of one life: the main one, the broker, and what carries both when they are multiplexed."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from supervisor.abc import Process
from supervisor.address import Address
from supervisor.errors import BrokerError, HandshakeError, SupervisorError, TransportError
from supervisor.host.caller import Caller, serving
from supervisor.services.announcing import Announcing, Place
from supervisor.services.broker import Broker, Way
from supervisor.services.broker_stream import ConnInfoStream, follow
from supervisor.services.knocking import Knocking
from supervisor.spec import PluginSpec
from supervisor.tls import TlsContexts
from supervisor.transport.channel import Channel
from supervisor.transport.dial import connect_multiplexed, dial
from supervisor.transport.yamux.connection import Multiplexer

__all__ = ["Connections"]


class Connections:
    """What the host has open to one instance; all of it ends with `abort`.

    Attributes:
        channel: the main connection.
    """

    def __init__(
        self, caller: Caller, channel: Channel, infos: ConnInfoStream, broker: Broker, multiplexer: Multiplexer | None
    ) -> None:
        self.channel = channel
        self._caller = caller
        self._infos = infos
        self._broker = broker
        self._multiplexer = multiplexer

    @classmethod
    async def open(
        cls, process: Process, address: Address, *, spec: PluginSpec, generation: int, tls: TlsContexts | None
    ) -> Connections:
        """Connect to a process that listens at `address`, as `spec` says.

        Raises:
            TransportError: there is no connection. Nothing is left open.
        """
        caller = Caller(spec.name, generation)
        multiplexer = None
        with serving(caller):
            if spec.multiplex:
                # At once, since Go's plugins give up after five seconds; and once, since they accept one connection.
                multiplexer = await connect_multiplexed(
                    address,
                    timeout=spec.connect_timeout,
                    limit=spec.limits.broker_connections + 1,
                    check_peer=process.check_peer,
                )
            try:
                channel = await dial(
                    address,
                    timeout=spec.connect_timeout,
                    limits=spec.limits,
                    check_peer=process.check_peer,
                    tls=tls,
                    over=multiplexer,
                    engine=spec.engine,
                )
            except BaseException:
                if multiplexer is not None:
                    multiplexer.close()
                raise
        infos = ConnInfoStream()
        way: Way
        if multiplexer is None:
            way = _announce(infos, process, spec, tls)
        else:
            way = Knocking(infos.send, multiplexer, address=address, limits=spec.limits, tls=tls)
        return cls(caller, channel, infos, Broker(infos, way, limits=spec.limits), multiplexer)

    async def follow_broker(self) -> None:
        """Exchange the broker's messages until the plugin ends them. Safe to cancel."""
        await follow(self.channel, self._infos)

    async def publish(self, services: Sequence[Any]) -> tuple[Broker, int]:
        """Offer services to the plugin; see `Broker.publish`."""
        try:
            with serving(self._caller):
                return self._broker, await self._broker.publish(*services)
        except SupervisorError as error:
            raise self._named(error) from error.__cause__

    async def connect(self, service_id: int) -> Channel:
        """Connect to a service that the plugin offers; see `Broker.connect`."""
        try:
            return await self._broker.connect(service_id)
        except SupervisorError as error:
            raise self._named(error) from error.__cause__

    def abort(self) -> None:
        """End everything, now. Synchronous and idempotent."""
        self._broker.abort()
        self.channel.close()
        if self._multiplexer is not None:
            self._multiplexer.close()

    def _named(self, error: SupervisorError) -> SupervisorError:
        error.plugin = error.plugin or self._caller.plugin
        return error


def _announce(infos: ConnInfoStream, process: Process, spec: PluginSpec, tls: TlsContexts | None) -> Announcing:
    def check_client(connected: socket.socket) -> None:
        try:
            process.check_peer(connected)
        except HandshakeError as error:
            raise TransportError("it is not part of the plugin", plugin=spec.name) from error

    def translate(address: Address) -> Address:
        try:
            return process.host_to_plugin(address)
        except OSError as error:
            message = f"the plugin cannot be let in at {address}: {error.strerror}"
            raise BrokerError(message, plugin=spec.name) from error

    return Announcing(
        infos.send,
        choose_place=lambda: Place(process.new_address()),
        limits=spec.limits,
        tls=tls,
        check_address=process.check_address,
        translate=translate,
        check_peer=process.check_peer,
        check_client=check_client,
    )
