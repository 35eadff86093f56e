"""What the host asked for, read from the environment that it gave the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import ConfigurationError
from supervisor.records import Level

__all__ = ["HostRequest", "parse_level", "read_environment"]

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """The protocol's variables, parsed.

    Attributes:
        versions: the application versions that the host accepts, as it wrote them.
        socket_directory: where sockets are to be created; None leaves it to the plugin.
        socket_group: the group, by name or number, that may connect to them.
        ports: the first and last TCP port to try; (0, 0) for any.
        multiplex_asked: whether the host wants to hear whether broker connections can be multiplexed.
        lifeline: whether the end of stdin means that the host is gone.
        log_level: stdlib logging's number from which records are wanted; None when the host did not say.
    """

    versions: str = ""
    socket_directory: str | None = None
    socket_group: str | None = None
    ports: tuple[int, int] = (0, 0)
    multiplex_asked: bool = False
    lifeline: bool = False
    log_level: int | None = None


def read_environment(environment: Mapping[str, str]) -> HostRequest:
    """Parse the variables that go-plugin's hosts and ours set.

    Raises:
        ConfigurationError: a variable is wrong, or asks for what this library does not do.
    """
    if environment.get("PLUGIN_CLIENT_CERT"):
        raise ConfigurationError(
            "the host asks for AutoMTLS, which this version of the library does not speak",
            key="PLUGIN_CLIENT_CERT",
            hint="switch AutoMTLS off in the host",
        )
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
        lifeline=environment.get("PLUGIN_LIFELINE") == "stdin",
        log_level=parse_level(environment.get("PLUGIN_LOG_LEVEL", "")),
    )


def parse_level(level: str | int | None) -> int | None:
    """Return stdlib logging's number for a level given as a name or a number; None for one that is neither."""
    if level is None or isinstance(level, int):
        return level
    if level.isascii() and level.isdigit():
        return int(level[:4])
    return Level.from_name(level)


def _read_port(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or "0"
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= _MAX_PORT):
        raise ConfigurationError(f"couldn't get value from {name}: {text!r} is not a port", key=name)
    return int(text)
