"""Every error this library raises on purpose: one tree under `SupervisorError`.

An error says what happened, where, and what to do next. The parts are fields (`plugin`, `phase`, `hint`), so a
program matches fields and a person reads one line. A foreign exception is translated once, on the floor that owns
the third party, and stays attached as `__cause__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.outcome import ExitReport

__all__ = [
    "BrokerError",
    "CallResetError",
    "CertificateError",
    "ChecksumError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "DecodeError",
    "EncodeError",
    "HandshakeError",
    "HandshakeTimeoutError",
    "IllegalTransitionError",
    "LaunchError",
    "MessageTooLargeError",
    "PluginCrashedError",
    "PluginDrainingError",
    "PluginFailedError",
    "PluginNotFoundError",
    "PluginStoppedError",
    "PluginUnavailableError",
    "ProtocolViolationError",
    "ReattachError",
    "RestartIntensityExceededError",
    "SupervisorError",
    "TransportError",
    "VersionMismatchError",
]


class SupervisorError(Exception):
    """Root of the tree.

    Attributes:
        plugin: name of the plugin it is about, if it is about one.
        phase: what was going on: `config`, `launch`, `handshake`, `connect`, `call`, `stop` ...
        hint: the next step for whoever reads the message.
    """

    def __init__(
        self, message: str, *, plugin: str | None = None, phase: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.phase = phase
        self.hint = hint

    def __str__(self) -> str:
        where = f"plugin {self.plugin!r}: " if self.plugin else ""
        then = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.args[0] if self.args else ''}{then}"


class ConfigurationError(SupervisorError, ValueError):
    """A configuration, a specification or an argument that cannot work.

    Attributes:
        path: the file it came from, if it came from one.
        table: the table within the file, as in `plugins.store.restart`.
        key: the key within the table.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        table: str | None = None,
        key: str | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase="config", hint=hint)
        self.path = path
        self.table = table
        self.key = key


class LaunchError(SupervisorError):
    """The program could not be started, or ended before it said a word.

    Attributes:
        errno: the operating system's error number, when it gave one.
        report: how the process ended, when there was one.
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        report: ExitReport | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase="launch", hint=hint)
        self.errno = errno
        self.report = report


class ChecksumError(LaunchError):
    """A file is not the one that `sha256` pins; nothing of it was executed.

    Attributes:
        path: the file.
        expected: the digest that was pinned, in hexadecimal.
        actual: the digest of what is there.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        expected: str = "",
        actual: str = "",
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, hint=hint)
        self.path = path
        self.expected = expected
        self.actual = actual


class HandshakeError(SupervisorError):
    """The first line on stdout was not a handshake this host can accept.

    Attributes:
        field: which field of the line was wrong, when one was.
        report: how the process ended, when it ended instead of speaking.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        report: ExitReport | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase="handshake", hint=hint)
        self.field = field
        self.report = report


class VersionMismatchError(HandshakeError):
    """Host and plugin speak no common version.

    Attributes:
        spoken: the version that the plugin announced.
        accepted: the versions that this host accepts.
    """

    def __init__(
        self,
        message: str,
        *,
        spoken: int | None = None,
        accepted: tuple[int, ...] = (),
        field: str | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, field=field, plugin=plugin, hint=hint)
        self.spoken = spoken
        self.accepted = accepted


class HandshakeTimeoutError(HandshakeError, TimeoutError):
    """The plugin did not become ready within `start_timeout`."""


class TransportError(SupervisorError):
    """The connection to a plugin, or a message on it, failed while the process may well be alive."""

    def __init__(
        self, message: str, *, plugin: str | None = None, phase: str | None = "call", hint: str | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)


class ConnectError(TransportError):
    """No connection could be made to the address that the plugin announced."""


class BrokerError(TransportError):
    """A service could not be offered to the other side, or one of its could not be reached.

    Attributes:
        service_id: the id in question, when there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        service_id: int | None = None,
        plugin: str | None = None,
        phase: str | None = "broker",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)
        self.service_id = service_id


class CertificateError(TransportError):
    """A certificate is not the one expected, not acceptable to one of the two sides, or not one at all."""


class ConnectionLostError(TransportError):
    """The connection ended under a call.

    Attributes:
        maybe_executed: whether the plugin may have seen the request.
    """

    def __init__(
        self,
        message: str,
        *,
        maybe_executed: bool = True,
        plugin: str | None = None,
        phase: str | None = "call",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)
        self.maybe_executed = maybe_executed


class CallResetError(TransportError):
    """The peer reset this one call; the connection goes on.

    Attributes:
        code: the HTTP/2 error code, by name.
        maybe_executed: whether the plugin may have seen the request; False when it said that it refused the call.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        maybe_executed: bool = True,
        plugin: str | None = None,
        phase: str | None = "call",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)
        self.code = code
        self.maybe_executed = maybe_executed


class ProtocolViolationError(TransportError):
    """The peer broke a rule of yamux, HTTP/2 or gRPC."""


class DecodeError(ProtocolViolationError, ValueError):
    """Bytes that are not a valid message of the expected type."""


class EncodeError(TransportError, ValueError):
    """A value that does not fit the field it was put into; nothing was sent.

    Attributes:
        message_type: the name of the message class.
        field: the name of the field, when one is at fault.
        value_type: the name of the value's class.
    """

    def __init__(
        self,
        message: str,
        *,
        message_type: str | None = None,
        field: str | None = None,
        value_type: str | None = None,
        plugin: str | None = None,
        phase: str | None = "call",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)
        self.message_type = message_type
        self.field = field
        self.value_type = value_type


class MessageTooLargeError(TransportError):
    """A message is larger than the limit.

    Attributes:
        size: the message's size in bytes.
        limit: the largest size accepted, in bytes.
    """

    def __init__(
        self,
        message: str,
        *,
        size: int = 0,
        limit: int = 0,
        plugin: str | None = None,
        phase: str | None = "call",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase=phase, hint=hint)
        self.size = size
        self.limit = limit


class DeadlineExceededError(TransportError, TimeoutError):
    """The call's deadline passed before the plugin answered."""


class PluginNotFoundError(SupervisorError, LookupError):
    """No plugin has this name, or none provides this interface."""


class PluginUnavailableError(SupervisorError):
    """The plugin cannot take the call, now (it is restarting) or until somebody acts.

    Attributes:
        maybe_executed: whether the plugin may have seen the request.
        report: how its last process ended, when one has.
    """

    def __init__(
        self,
        message: str,
        *,
        maybe_executed: bool = False,
        report: ExitReport | None = None,
        plugin: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, phase="call", hint=hint)
        self.maybe_executed = maybe_executed
        self.report = report


class PluginCrashedError(PluginUnavailableError):
    """The plugin's process ended while the call was in flight."""


class PluginDrainingError(PluginUnavailableError):
    """The plugin finishes the calls in flight and takes no new ones."""


class PluginStoppedError(PluginUnavailableError):
    """The plugin was stopped on purpose; `start()` it again to use it."""


class PluginFailedError(PluginUnavailableError):
    """The supervisor gave up on the plugin; `restart()` tries again."""


class ReattachError(SupervisorError):
    """A running plugin could not be taken over, or cannot be handed on. Nothing was signalled.

    Attributes:
        gone: whether its process is certain to have ended, so that starting another doubles nothing.
    """

    def __init__(self, message: str, *, gone: bool = False, plugin: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, plugin=plugin, phase="reattach", hint=hint)
        self.gone = gone


class RestartIntensityExceededError(SupervisorError):
    """A plugin that may take the supervisor down with it (`escalate = true`) was given up on."""

    def __init__(self, message: str, *, plugin: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, plugin=plugin, phase="restart", hint=hint)


class IllegalTransitionError(RuntimeError):
    """A signal that a state has no transition for: a defect of this library, so outside the tree on purpose."""
