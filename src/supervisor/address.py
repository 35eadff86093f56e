"""Where a plugin listens, as the handshake says it: network and address."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from supervisor.errors import HandshakeError
from supervisor.quoting import quote_text

__all__ = ["MAX_SOCKET_PATH", "Address", "MemoryAddress", "TcpAddress", "UnixAddress", "parse_address"]

MAX_SOCKET_PATH = 107
"""Usable bytes of `sockaddr_un.sun_path` on Linux (macOS has 103)."""

_PLACE: Final = "let the plugin put its socket into PLUGIN_UNIX_SOCKET_DIR"

_MAX_PORT = 65535


class UnixAddress(NamedTuple):
    """A socket file."""

    path: str
    network: Literal["unix"] = "unix"

    def __str__(self) -> str:
        return self.path


class TcpAddress(NamedTuple):
    """An IP address and a port."""

    host: str
    port: int
    network: Literal["tcp"] = "tcp"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MemoryAddress(NamedTuple):
    """A connection inside this process; never on the wire."""

    name: str
    network: Literal["memory"] = "memory"

    def __str__(self) -> str:
        return self.name


Address = UnixAddress | TcpAddress | MemoryAddress


def parse_address(network: str, address: str) -> UnixAddress | TcpAddress:
    """Parse fields 2 and 3 of a handshake line.

    Relative paths, abstract sockets, host names and addresses off the loopback are refused: a plugin lives on this
    machine, and any local user may connect to an abstract socket.

    Raises:
        HandshakeError: the network is unknown or the address is not one a plugin may announce.
    """
    match network:
        case "unix":
            return _parse_unix(address)
        case "tcp":
            return _parse_tcp(address)
        case _:
            raise HandshakeError(
                f"unknown network {quote_text(network)}", field="network", hint="a plugin announces unix or tcp"
            )


def _parse_unix(path: str) -> UnixAddress:
    if path.startswith(("@", "\0")):
        raise HandshakeError(
            f"socket {quote_text(path)} is abstract, so that any local user could connect", field="address", hint=_PLACE
        )
    if not path.startswith("/") or "\0" in path:
        raise HandshakeError(f"socket path {quote_text(path)} is not absolute", field="address", hint=_PLACE)
    if ".." in path.split("/"):
        raise HandshakeError(
            f"socket path {quote_text(path)} climbs out of its directory", field="address", hint=_PLACE
        )
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MAX_SOCKET_PATH:
        raise HandshakeError(
            f"socket path of {size} bytes is longer than the {MAX_SOCKET_PATH} that the kernel takes",
            field="address",
            hint=_PLACE,
        )
    return UnixAddress(path)


def _parse_tcp(address: str) -> TcpAddress:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if "%" in host:
        # An IPv6 scope may hold any text, and the loopback needs none.
        raise HandshakeError(f"{quote_text(address)} has a scope", field="address")
    import ipaddress  # noqa: PLC0415  # with urllib.parse 2 ms, and unix sockets do without

    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise HandshakeError(f"{quote_text(address)} is not an IP address and a port", field="address") from None
    if not loopback:
        raise HandshakeError(f"{quote_text(address)} is not on the loopback interface", field="address")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= _MAX_PORT):  # noqa: PLR2004
        raise HandshakeError(f"{quote_text(port)} is not a port", field="address")
    return TcpAddress(host, int(port))
