"""What a host has with one process: address, version, TLS, connections, a word on its health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anyio.abc import TaskGroup

from supervisor.abc import Process
from supervisor.address import Address
from supervisor.errors import HandshakeTimeoutError
from supervisor.events import HandshakeDone, NoticeRaised
from supervisor.handshake import format_versions, require_multiplexing
from supervisor.host.attachment import Attachment
from supervisor.host.connections import Connections
from supervisor.host.hearing import Hearing
from supervisor.host.launch import Launch
from supervisor.host.probe import Outcome, Sample, await_serving
from supervisor.host.security import Security
from supervisor.services.broker import HOST_SERVICES
from supervisor.spec import PluginSpec
from supervisor.transport.channel import Channel

__all__ = ["Link"]


class Link:
    """The host's end of one life, from the variables of its process to its readiness.

    What it has come to can be read, and is to be closed, also when it came no further.

    Args:
        spec: the plugin's.
        origin: how the life begins.
        hearing: what takes the plugin's output.
        services: what the plugin may call; offered to it under the broker's id `HOST_SERVICES`.
        emit: told what happens, as a kind of event and its own fields.

    Attributes:
        address: where the plugin listens, by its own account; None until it has said so.
        version: of the application's protocol, the one that both speak; None until then.
        connections: None until there are any.
        has_health: whether the plugin tells of its health.
    """

    def __init__(
        self,
        spec: PluginSpec,
        origin: Launch | Attachment,
        hearing: Hearing,
        *,
        services: Sequence[Any],
        emit: Callable[..., None],
    ) -> None:
        self.address: Address | None = None
        self.version: int | None = None
        self.connections: Connections | None = None
        self.has_health = False
        self._spec = spec
        self._origin = origin
        self._hearing = hearing
        self._services = tuple(services)
        self._emit = emit
        self._security = Security(spec)
        self._sample: Sample | None = None

    @property
    def channel(self) -> Channel | None:
        """The main connection; None until there is one."""
        return None if self.connections is None else self.connections.channel

    def variables(self, *, log_level: int, sync_stderr: bool) -> dict[str, str]:
        """Return what the process is told in its environment.

        Args:
            log_level: the level, as a number, from which it is to send records.
            sync_stderr: whether the application wants its stderr raw.

        Raises:
            LaunchError: the application's certificates cannot be read or used.
        """
        return {
            self._spec.cookie.key: self._spec.cookie.value,
            "PLUGIN_PROTOCOL_VERSIONS": format_versions(self._spec.versions),
            "PLUGIN_LOG_LEVEL": str(log_level),
            **self._security.variables(),
            **({"PLUGIN_MULTIPLEX_GRPC": "true"} if self._spec.multiplex else {}),
            **({"PLUGIN_HOST_SERVICES": str(HOST_SERVICES)} if self._services else {}),
            # Unasked it does as under go-plugin's hosts; as records the descriptor's own way is the better one.
            "PLUGIN_SYNC_STDERR": "true" if sync_stderr else "false",
        }

    async def come_up(
        self, process: Process, readers: TaskGroup, *, generation: int, on_eof: Callable[[], Awaitable[object]]
    ) -> Channel:
        """Connect to a process that has begun, and return its channel once it is ready for calls.

        Args:
            process: whose end this is.
            readers: where its output and streams are heard.
            generation: which life it is.
            on_eof: awaited when its stdout has ended without a handshake.

        Raises:
            HandshakeError: what it says of itself is wrong, or it says nothing.
            TransportError: there is no speaking with it.
        """
        handshake = await self._origin.introduce(
            self._hearing,
            readers,
            on_eof=on_eof,
            on_notice=lambda message: self._emit(NoticeRaised, message=message),
        )
        self.address = handshake.address
        address = process.check_address(handshake.address)
        self.version = handshake.version
        if self._spec.multiplex:
            require_multiplexing(handshake)
        tls = self._security.settle(handshake.certificate, address)
        self._emit(HandshakeDone, version=handshake.version, address=str(address))
        self.connections = connections = await Connections.open(
            process, address, spec=self._spec, generation=generation, tls=tls
        )
        readers.start_soon(connections.follow_broker)
        self._hearing.hear_streams(readers, connections.channel)
        if self._services:
            await connections.publish(self._services)
        if self._spec.health is not None:
            self.has_health = await await_serving(connections.channel, self._spec.health, on_sample=self._note_sample)
            if not self.has_health:
                self._emit(NoticeRaised, message="no health service: only its process is watched")
        self._origin.confirm()
        return connections.channel

    def abort(self) -> None:
        """Close every connection at once; idempotent."""
        if self.connections is not None:
            self.connections.abort()

    def timeout_error(self) -> HandshakeTimeoutError:
        """Say what it still waited for when the time for the start was over."""
        missing = "its handshake" if self.version is None else "a health check to say SERVING"
        if self._sample is not None:
            answer = "NOT_SERVING" if self._sample.outcome is Outcome.UNREADY else self._sample.error
            missing += f"; the last one gave: {answer}"
        return HandshakeTimeoutError(
            f"not ready within {self._spec.start_timeout:g} s: still waiting for {missing}",
            plugin=self._spec.name,
            hint="look at its last lines on stderr, or raise start_timeout",
        )

    def _note_sample(self, sample: Sample) -> None:
        self._sample = sample
