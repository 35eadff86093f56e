"""What the host asked for, read from the environment that it gave the plugin."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from supervisor.errors import ConfigurationError
from supervisor.handshake import parse_boolean
from supervisor.levels import Level

__all__ = ["HostRequest", "forget_host", "parse_level", "read_environment"]

_VARIABLES = (
    "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_UNIX_SOCKET_GROUP", "PLUGIN_MIN_PORT",
    "PLUGIN_MAX_PORT", "PLUGIN_MULTIPLEX_GRPC", "PLUGIN_HOST_SERVICES", "PLUGIN_LIFELINE", "PLUGIN_LOG_LEVEL",
    "PLUGIN_CLIENT_CERT", "PLUGIN_SYNC_STDERR",
)  # fmt: skip
_MAX_PORT = 65535
_IDS = 2**32


class HostRequest(NamedTuple):
    """The protocol's variables, parsed.

    Attributes:
        versions: the application versions that the host accepts, as it wrote them.
        socket_directory: where sockets are to be created; None leaves it to the plugin.
        socket_group: the group, by name or number, that may connect to them.
        ports: the first and last TCP port to try; (0, 0) for any.
        multiplex_asked: whether the host wants to hear whether connections can be multiplexed.
        multiplex: whether they are to be.
        host_services: the broker's id of the services that the host offers; None when it offers none.
        lifeline: whether the end of stdin means that the host is gone.
        log_level: stdlib logging's number from which records are wanted; None when the host did not say.
        client_certificate: the host's certificate as PEM, when it asks for AutoMTLS.
        sync_stderr: whether `sys.stderr` goes to the host's writer, as go-plugin's hosts have one, and not to its log.
    """

    versions: str = ""
    socket_directory: str | None = None
    socket_group: str | None = None
    ports: tuple[int, int] = (0, 0)
    multiplex_asked: bool = False
    multiplex: bool = False
    host_services: int | None = None
    lifeline: bool = False
    log_level: int | None = None
    client_certificate: str | None = None
    sync_stderr: bool = True


def read_environment(environment: Mapping[str, str]) -> HostRequest:
    """Parse the variables that go-plugin's hosts and ours set.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    lowest = _read_port(environment, "PLUGIN_MIN_PORT")
    highest = _read_port(environment, "PLUGIN_MAX_PORT")
    if lowest > highest:
        raise ConfigurationError(
            f"PLUGIN_MIN_PORT value of {lowest} is greater than PLUGIN_MAX_PORT value of {highest}",
            key="PLUGIN_MIN_PORT",
        )
    return HostRequest(
        versions=environment.get("PLUGIN_PROTOCOL_VERSIONS", ""),
        socket_directory=environment.get("PLUGIN_UNIX_SOCKET_DIR") or None,
        socket_group=environment.get("PLUGIN_UNIX_SOCKET_GROUP") or None,
        ports=(lowest, highest),
        multiplex_asked=bool(environment.get("PLUGIN_MULTIPLEX_GRPC")),
        multiplex=parse_boolean(environment.get("PLUGIN_MULTIPLEX_GRPC", "")) or False,
        host_services=_read_id(environment, "PLUGIN_HOST_SERVICES"),
        lifeline=environment.get("PLUGIN_LIFELINE") == "stdin",
        log_level=parse_level(environment.get("PLUGIN_LOG_LEVEL", "")),
        client_certificate=environment.get("PLUGIN_CLIENT_CERT") or None,
        sync_stderr=parse_boolean(environment.get("PLUGIN_SYNC_STDERR", "")) is not False,
    )


def forget_host(environment: MutableMapping[str, str]) -> None:
    """Remove what was meant for this process alone.

    Else a host that it starts hands it on to plugins of its own, as go-plugin's do: they would show a certificate that
    nobody asked for, speak yamux to who does not, and end with a lifeline that was never theirs.
    """
    for name in _VARIABLES:
        environment.pop(name, None)


def parse_level(level: str | int | None) -> int | None:
    """Return stdlib logging's number for a level given as a name or a number; None for one that is neither."""
    if level is None or isinstance(level, int):
        return level
    if level.isascii() and level.isdigit():
        return int(level[:4])
    return Level.from_name(level)


def _read_id(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name) or ""
    if text and not (text.isascii() and text.isdigit() and 0 < int(text[:11]) < _IDS):
        raise ConfigurationError(f"couldn't get value from {name}: {text!r} is not a broker's id", key=name)
    return int(text) if text else None


def _read_port(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or "0"
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= _MAX_PORT):
        raise ConfigurationError(f"couldn't get value from {name}: {text!r} is not a port", key=name)
    return int(text)
